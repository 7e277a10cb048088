"""What several commands read alike from the command line."""

from collections.abc import Callable
from typing import Any

from lnsub.common.errors import UserError

_EXAMPLES: dict[Any, str] = {str: "fr,ur,zh", int: "57,58", float: "0.5,0.8"}


def comma_list(option: str, text: str, kind: Callable[[str], Any] = str) -> list[Any]:
    """Reads values separated by commas; blanks around a value and empty places count for nothing.

    Args:
        option: the option's name, for the message.
        text: what was given.
        kind: ``str``, ``int`` or ``float``.

    Returns:
        The values, each once, in the order given; an empty list where there are none.

    Raises:
        UserError: a value is not of that kind.
    """
    values: dict[Any, None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            values[kind(part)] = None
        except ValueError:
            raise UserError(
                f"{option} takes values separated by commas, such as {_EXAMPLES[kind]}; '{part}' is not one."
            ) from None
    return list(values)
