"""Looking up entries by a name that the user typed, with suggestions for mistyped names."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from lnsub.common.errors import UserError

T = TypeVar("T")


def lookup(what: str, name: str, table: Mapping[str, T]) -> T:
    """Looks up an entry by name.

    Args:
        what: the kind of entry, for the error message: ``"score"``.
        name: the name.
        table: the entries by name.

    Returns:
        The entry.

    Raises:
        UserError: there is no such entry; the message lists the valid names and suggests the closest one.
    """
    if name in table:
        return table[name]
    raise UserError(f"Unknown {what} {name!r}{did_you_mean(name, table)}: choose one of {', '.join(table)}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns a hint such as `` (did you mean learning_rate?)``, or "" if no known word is close."""
    close = get_close_matches(str(word), list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""
