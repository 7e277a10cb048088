"""Choosing one entry of a table by the name a user typed, and guessing what a mistyped name meant."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from lnsub.common.errors import UserError

T = TypeVar("T")


def lookup(what: str, name: str, table: Mapping[str, T]) -> T:
    """Looks up ``name``, or says which names there are.

    Args:
        what: what the table holds, in the singular, as the message should call it: ``"score"``.
        name: what the user asked for.
        table: the entries by name.

    Returns:
        The entry.

    Raises:
        UserError: there is no such entry; the message lists the names and suggests the closest one.
    """
    if name in table:
        return table[name]
    raise UserError(f"Unknown {what} {name!r}{did_you_mean(name, table)}: choose one of {', '.join(table)}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns a hint such as `` (did you mean learning_rate?)``, or nothing where no known word is close."""
    close = get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
