"""Departures taken apart: the inherited mask with a part of what one ticket, or another, changes of it.

A ticket departs from the inherited mask where it keeps a weight that the mask prunes (kept though small) or prunes one
that the mask keeps (pruned though large). Held against a second ticket, departures are shared, or one ticket's only.
Which of them a language needs is asked of masks that have one part alone, with as many weights each.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from lnsub.common.errors import UserError
from lnsub.tickets.combining import common_shapes, merged_provenance
from lnsub.tickets.packed import count_bits
from lnsub.tickets.provenance import DEPARTURES
from lnsub.tickets.ticket import Ticket

Part = Literal["shared", "own", "foreign"]
"""Departures that both tickets have, the first one's only, the second one's only."""

PARTS: tuple[Part, ...] = get_args(Part)


@dataclasses.dataclass(frozen=True)
class PartOfDepartures:
    """The inherited mask with a part of the departures.

    Attributes:
        ticket: it.
        drawn: weights of the part that are kept though small, and as many that are pruned though large.
        of: how many there were to draw from, of each of the two.
    """

    ticket: Ticket
    drawn: int
    of: tuple[int, int]


def part_of_departures(own: Ticket, foreign: Ticket, inherited: Ticket, part: Part, seed: int = 0) -> PartOfDepartures:
    """Makes the inherited mask with one part of two tickets' departures.

    All three parts are cut to one size, so that masks of all three compare: as many weights kept though small, and as
    many pruned though large, as the smallest part has of either. So the mask is as sparse as the inherited one. Where a
    part has more, they are drawn at random over all matrices.

    Args:
        own: the ticket whose departures are taken apart.
        foreign: the other.
        inherited: the mask that both depart from, of the same sparsity, scope and granularity. The ticket has the
            parameters that all three have.
        part: which.
        seed: of the draw.

    Returns:
        The ticket and its size. The ticket's sparsity is that of the three, its score ``departures:<part>``, and its
        task and language are those of ``own`` and ``foreign``, joined by ``+`` where they differ. Its ``sources`` is
        JSON with ``how``, ``part``, ``drawn``, ``of``, ``draw_seed``, ``inherited`` (checksum), ``left_out``
        (parameters that not all three have), and the two ``tickets`` as :func:`lnsub.tickets.combining.combine` has
        them.

    Raises:
        UserError: the three differ in base model, shapes, sparsity, scope or granularity, prune units larger than a
            weight, or have no parameter in common; or a part has no weights.
    """
    three = (own, foreign, inherited)
    _check(three)
    shapes = common_shapes(three)
    names = [name for name in shapes if all(name in ticket.masks for ticket in three)]
    if not names:
        raise UserError(f"tickets {', '.join(ticket.where for ticket in three)} have no parameter in common")
    sizes = {one: _sizes(three, names, one) for one in PARTS}
    drawn = min(size for of in sizes.values() for size in of)
    if not drawn:
        raise UserError(
            f"tickets {own.where} and {foreign.where} have {_empty(sizes)}, so their departures cannot be cut to one "
            "size: choose two tickets that each depart in their own way"
        )
    rng = np.random.default_rng([seed, PARTS.index(part)])
    chosen = [np.sort(rng.choice(size, drawn, replace=False)) for size in sizes[part]]
    masks, before = {}, [0, 0]
    for name, departed in _departed(three, names, part):
        flat = np.unpackbits(inherited.masks[name], bitorder="little")
        for direction, bits in enumerate(departed):
            places = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
            start, end = np.searchsorted(chosen[direction], [before[direction], before[direction] + places.size])
            flat[places[chosen[direction][start:end] - before[direction]]] ^= 1
            before[direction] += places.size
        masks[name] = np.packbits(flat, bitorder="little")
    provenance = merged_provenance((own, foreign), f"{DEPARTURES}:{part}", own.provenance.sparsity)
    sources = json.loads(provenance.sources) | {
        "how": DEPARTURES,
        "part": part,
        "drawn": drawn,
        "of": sizes[part],
        "draw_seed": seed,
        "inherited": inherited.checksum,
        "left_out": sorted(shapes.keys() - names),
    }
    provenance = dataclasses.replace(provenance, sources=json.dumps(sources, sort_keys=True))
    made = Ticket(masks, {name: shapes[name] for name in names}, provenance)
    return PartOfDepartures(made, drawn, sizes[part])


def _check(three: Sequence[Ticket]) -> None:
    own, *others = three
    for other in others:
        for what in ("sparsity", "scope", "granularity"):
            a, b = (getattr(ticket.provenance, what) for ticket in (own, other))
            if a != b and not (what == "sparsity" and abs(a - b) < 1e-6):
                raise UserError(
                    f"tickets {own.where} and {other.where} differ in {what}, {a} and {b}: departures are taken apart "
                    "at one sparsity, scope and granularity"
                )
    if own.provenance.granularity != "weight":
        raise UserError(
            f"ticket {own.where} prunes {own.provenance.granularity}s: departures are drawn weight by weight, which "
            "would tear them apart"
        )


def _departed(three: Sequence[Ticket], names: Sequence[str], part: Part) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The packed departures of a part by parameter: kept though small, then pruned though large."""
    for name in names:
        own, foreign, base = (ticket.masks[name] for ticket in three)
        a, b = own ^ base, foreign ^ base
        found = {"shared": a & b, "own": a & ~b, "foreign": b & ~a}[part]
        yield name, [found & ~base, found & base]


def _sizes(three: Sequence[Ticket], names: Sequence[str], part: Part) -> tuple[int, int]:
    counts = [[count_bits(bits) for bits in departed] for _, departed in _departed(three, names, part)]
    small, large = map(sum, zip(*counts, strict=True))
    return small, large


def _empty(sizes: Mapping[Part, tuple[int, int]]) -> str:
    """Says which part has no weights."""
    part, of = next((part, of) for part, of in sizes.items() if not all(of))
    what = "kept though small" if not of[0] else "pruned though large"
    whose = {"shared": "in both", "own": "in the first alone", "foreign": "in the second alone"}[part]
    return f"no weight {what} {whose}"
