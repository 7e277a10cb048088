"""Labels: as they stand in a source, in a model's configuration, and beside the rows that they are of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded


def label_reader(
    names: Sequence[str], feature: Any, unlabelled: Sequence[str | None] = ()
) -> Callable[[Any, str], int]:
    """Makes the function that turns a label as it stands in the source into its number.

    Args:
        names: the labels in the order of their numbers.
        feature: type of the source's labels. If it names them, its own numbers are read by name.
        unlabelled: what stands for no label; its number is :data:`~lnsub.data.batching.IGNORED`.

    Returns:
        A function of a label (number, number as text, or name) and a description of its row, which raises a
        :class:`UserError` for what is not a label.
    """
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
    numbers |= dict.fromkeys(unlabelled, IGNORED)
    if isinstance(feature, datasets.ClassLabel):
        numbers |= {i: numbers[name] for i, name in enumerate(feature.names) if name in numbers}
    else:
        numbers |= {key: number for number in range(len(names)) for key in (number, str(number))}

    def read(label: Any, row: str) -> int:
        number = numbers.get(label) if label is None or isinstance(label, (str, int, float)) else None
        if number is None:
            expected = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise UserError(f"{row} has the label {label!r}: it must be one of {expected}.")
        return number

    return read


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
