"""Choosing one entry of a table by the name a user typed."""

import difflib
from collections.abc import Mapping
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
    close = difflib.get_close_matches(str(name), table, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"Unknown {what} {name!r}: choose one of {', '.join(table)}.{hint}")
