"""Options that several commands share, and the parsing of their values."""

import argparse
from collections.abc import Callable
from typing import Any

from lnsub.common.errors import UserError

_EXAMPLES: dict[Any, str] = {str: "fr,ur,zh", int: "57,58", float: "0.5,0.8"}


def add_inherited(parser: argparse.ArgumentParser) -> None:
    """Adds ``--inherited [BASE_MODEL]``: None without the option, empty without a value."""
    parser.add_argument(
        "--inherited",
        nargs="?",
        const="",
        metavar="BASE_MODEL",
        help="make the inherited masks from the base model (default: the one named in the tickets)",
    )


def named(text: str) -> str:
    """An option's text, which must name something; empty, it is a variable of the shell that is not set.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name something, or leave the option out")
    return text


def comma_list(option: str, text: str, kind: Callable[[str], Any] = str) -> list[Any]:
    """Parses comma-separated values; whitespace around values and empty values are ignored.

    Args:
        option: the option's name, for the error message.
        text: the option's value.
        kind: ``str``, ``int`` or ``float``.

    Returns:
        The distinct values in the order given.

    Raises:
        UserError: a value is not of that type.
    """
    values: dict[Any, None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            values[kind(part)] = None
        except ValueError:
            raise UserError(
                f"{option} takes comma-separated values such as {_EXAMPLES[kind]}; '{part[:40]}' is invalid."
            ) from None
    return list(values)
