"""Labels: as they stand in a source, in a model's configuration, and beside the rows that they are of."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded

# What stands for a number in text. A column of numbers with gaps becomes one of fractions in pandas: hence 1.0.
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")


def label_reader(
    names: Sequence[str], feature: Any, unlabelled: Sequence[str | None] = ()
) -> Callable[[Any, str], int]:
    """Makes the function that turns a label as it stands in the source into its number.

    A label is its name or its number; the number may be a fraction that is whole (1.0), and either may be text, with
    spaces around it. A truth value is no label. Every format is read alike.

    Args:
        names: the labels in the order of their numbers.
        feature: type of the source's labels. If it names them, its own numbers are read by name.
        unlabelled: what stands for no label; its number is :data:`~lnsub.data.batching.IGNORED`.

    Returns:
        A function of a label and a description of its row, which raises a :class:`UserError` for what is not a label.
    """
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    numbers |= dict.fromkeys(unlabelled, IGNORED)
    classes = feature.names if isinstance(feature, datasets.ClassLabel) else None

    def number_of(label: Any) -> int | None:
        if isinstance(label, str):
            label = label.strip()
            number = _NUMBER.fullmatch(label)
            if label in numbers or number is None:
                return numbers.get(label)
            label = float(number[1])
        if label is None:
            return numbers.get(None)
        whole = not isinstance(label, bool) and isinstance(label, int | float) and label in range(len(names))
        return int(label) if whole else None

    def read(label: Any, row: str) -> int:
        said = f"{label!r:.100}"
        if classes is None or label is None:
            number = number_of(label)
        elif label in range(len(classes)):
            number, said = number_of(classes[label]), f"{label}, which its file calls {classes[label]!r:.100}"
        else:
            number = None
        if number is None:
            expected = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise UserError(f"{row} has the label {said}: it must be one of {expected}.")
        return number

    # A split has few labels, and a sentence of tags many; booleans must not be taken for the numbers they equal.
    known: dict[tuple[type, Any], int] = {}

    def read_once(label: Any, row: str) -> int:
        key = (type(label), label)
        if not isinstance(label, str | int | float | None):
            return read(label, row)
        if key not in known:
            known[key] = read(label, row)
        return known[key]

    return read_once


def label_names(names: Sequence[str]) -> dict[str, Any]:
    """Returns the entries of a model's configuration that name its labels, and so say how many there are."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def labelled(encoded: Mapping[str, Any], labels: Sequence[Any], numbers: Sequence[int], kept: Sequence[int]) -> Encoded:
    """Puts labels and row numbers beside what the tokenizer returned.

    Args:
        encoded: what the tokenizer returned for a batch.
        labels: a label or a list of labels for each row of the batch.
        numbers: the rows' numbers in the split.
        kept: the rows of the batch to keep, in order.
    """
    columns = {
        "labels": labels,
        "length": [len(ids) for ids in encoded["input_ids"]],
        "index": numbers,
        **{key: encoded[key] for key in ("input_ids", "token_type_ids") if key in encoded},
    }
    return {name: [values[i] for i in kept] for name, values in columns.items()}
