"""What a ticket keeps of each part of the model."""

import math
from collections.abc import Iterable
from typing import Any

from lnsub.tickets.parameters import group_columns
from lnsub.tickets.ticket import Ticket


def density_by(ticket: Ticket, by: Iterable[str] = ("layer", "kind")) -> list[dict[str, Any]]:
    """The density of each group of a ticket's parameters.

    Args:
        ticket: the ticket.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`; none makes one group of all parameters.

    Returns:
        A row a group: the columns of ``by``, ``density``, ``kept`` and ``weights``.

    Raises:
        UserError: ``by`` holds something else.
    """
    by, names = tuple(by), list(ticket.masks)
    rows = []
    for group, columns in group_columns(names, by).items():
        kept = sum(ticket.kept_by_name[names[m]] for m in columns)
        weights = sum(math.prod(ticket.shapes[names[m]]) for m in columns)
        rows.append(dict(zip(by, group, strict=True)) | {"density": kept / weights, "kept": kept, "weights": weights})
    return rows
