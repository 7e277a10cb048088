"""Labels as they stand in a source, as numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import datasets

from lnsub.common.errors import UserError


def label_reader(names: Sequence[str], feature: Any) -> Callable[[Any, str], int]:
    """Makes the function that turns a label as it stands in the source into its number.

    Args:
        names: the labels in the order of their numbers.
        feature: type of the source's labels. If it names them, its own numbers are read by name.

    Returns:
        A function of a label (number, number as text, or name) and a description of its row, which raises a
        :class:`UserError` for what is not a label.
    """
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
    if isinstance(feature, datasets.ClassLabel):
        numbers |= {i: numbers[name] for i, name in enumerate(feature.names) if name in names}
    else:
        numbers |= {key: number for number in range(len(names)) for key in (number, str(number))}

    def read(label: Any, row: str) -> int:
        number = numbers.get(label) if isinstance(label, (str, int, float)) else None
        if number is None:
            expected = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise UserError(f"{row} has the label {label!r}: it must be one of {expected}.")
        return number

    return read
