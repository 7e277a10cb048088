"""Combining tickets: union, intersection (the language-neutral core), majority, difference."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lnsub.common.errors import UserError
from lnsub.common.printable import printable
from lnsub.tickets.packed import count_bits
from lnsub.tickets.provenance import DEPARTURES, Provenance
from lnsub.tickets.ticket import Ticket


def combine(tickets: Sequence[Ticket], how: str) -> Ticket:
    """Combines several tickets into one.

    Args:
        tickets: two or more tickets of one base model, of any sparsity. The combined ticket has the parameters that
            all of them have.
        how: one of :data:`HOW`. ``union``: kept in any; ``intersection``: kept in all; ``majority``: kept in more than
            half; ``difference``: kept in the first and in none of the others.

    Returns:
        The combined ticket. Its ``sparsity`` is the measured one, its ``score`` is ``how``, and its task and language
        are those of the tickets, joined by ``+``; a field in which they differ is ``mixed``, or -1 for a number. Its
        granularity is that of all of them, ``weight`` where they differ. Its
        ``sources`` is JSON with ``how``, ``left_out`` (parameters that not all have), and the ``checksum``, ``task``,
        ``language``, ``seed`` and ``sparsity`` of each ticket.

    Raises:
        UserError: fewer than two tickets, an unknown ``how``, different base models or shapes, or no parameter in
            common.
    """
    if how not in HOW:
        raise UserError(f"tickets cannot be combined by {how!r}: choose from {', '.join(HOW)}")
    if len(tickets) < 2:
        raise UserError(f"{how} takes at least two tickets: got {len(tickets)}")
    shapes = common_shapes(tickets)
    common = [name for name in shapes if all(name in t.masks for t in tickets)]
    if not common:
        raise UserError(f"tickets {', '.join(t.where for t in tickets)} have no parameter in common")
    masks = {name: HOW[how]([t.masks[name] for t in tickets]) for name in common}
    kept = sum(count_bits(mask) for mask in masks.values())
    sparsity = 1 - kept / sum(math.prod(shapes[name]) for name in common)
    provenance = merged_provenance(tickets, how, sparsity, left_out=sorted(shapes.keys() - common))
    return Ticket(masks, {name: shapes[name] for name in common}, provenance)


def _union(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.bitwise_or.reduce(rows)


def _intersection(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.bitwise_and.reduce(rows)


def _difference(rows: Sequence[np.ndarray]) -> np.ndarray:
    return rows[0] & ~_union(rows[1:])


def _majority(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Keeps what more than half of the rows keep, without unpacking.

    Each weight has a counter, stored as one packed array per binary digit, so that adding a row or comparing counters
    takes a few bitwise operations on whole arrays.
    """
    digits = [np.zeros_like(rows[0]) for _ in range(len(rows).bit_length())]
    for row in rows:
        carry = row
        for place, digit in enumerate(digits):
            digits[place], carry = digit ^ carry, digit & carry
    half = len(rows) // 2
    more, equal = np.zeros_like(rows[0]), np.full_like(rows[0], 0xFF)
    for place in reversed(range(len(digits))):
        if half >> place & 1:
            equal &= digits[place]
        else:
            more |= equal & digits[place]
            equal &= ~digits[place]
    return more


HOW: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "union": _union,
    "intersection": _intersection,
    "majority": _majority,
    "difference": _difference,
}
"""The ways to combine tickets: functions from several packed masks of equal length to one."""


def is_combined(score: object) -> bool:
    """Whether a ticket's score says that it was combined of several, by any way of `lnsub combine`."""
    return score in HOW or str(score).partition(":")[0] == DEPARTURES


def merged_provenance(
    tickets: Sequence[Ticket], how: str, sparsity: float, *, left_out: Sequence[str] = ()
) -> Provenance:
    """The provenance of a ticket made from several, as :func:`combine` says.

    Args:
        tickets: the tickets.
        how: what stands as the score.
        sparsity: the made ticket's.
        left_out: parameters that not all have.
    """
    all_of = [t.provenance for t in tickets]

    def shared(field: str, otherwise: Any) -> Any:
        values = {getattr(p, field) for p in all_of}
        return values.pop() if len(values) == 1 else otherwise

    same_units = len({p.units for p in all_of}) == 1
    sources = {
        "how": how,
        "left_out": list(left_out),
        "tickets": [
            {"checksum": t.checksum}
            | {field: getattr(t.provenance, field) for field in ("task", "language", "seed", "sparsity")}
            for t in tickets
        ],
    }
    return Provenance(
        base_model=all_of[0].base_model,
        base_fingerprint=all_of[0].base_fingerprint,
        task="+".join(dict.fromkeys(p.task for p in all_of)),
        language="+".join(dict.fromkeys(p.language for p in all_of)),
        seed=shared("seed", -1),
        round=shared("round", -1),
        sparsity=sparsity,
        score=how,
        scope=shared("scope", "mixed"),
        schedule=shared("schedule", "mixed"),
        sources=json.dumps(sources, sort_keys=True),
        granularity=all_of[0].granularity if same_units else "weight",
        units=all_of[0].units if same_units else "",
    )


def common_shapes(tickets: Sequence[Ticket]) -> dict[str, tuple[int, ...]]:
    """Checks that tickets are comparable, and merges their parameter shapes.

    Args:
        tickets: at least one.

    Returns:
        The shape of each parameter that any of them has, in name order.

    Raises:
        UserError: two tickets have different base models, or different shapes for one parameter; the message names
            the two and the difference.
    """
    first = tickets[0]
    owner: dict[str, Ticket] = {}
    for ticket in tickets:
        a, b = first.provenance, ticket.provenance
        if a.base_fingerprint != b.base_fingerprint:
            raise UserError(
                f"tickets {first.where} and {ticket.where} come from different base models: {first.base} and "
                f"{printable(b.base_model)} ({printable(b.base_fingerprint[:12])}); "
                "compare tickets of one model"
            )
        for name, shape in ticket.shapes.items():
            other = owner.setdefault(name, ticket)
            if other.shapes[name] != shape:
                raise UserError(
                    f"tickets {other.where} and {ticket.where} differ in the shape of {name}: "
                    f"{list(other.shapes[name])} and {list(shape)}; compare tickets of one model"
                )
    return {name: owner[name].shapes[name] for name in sorted(owner)}
