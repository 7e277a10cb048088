"""What is taken away: a ticket's kept weights, those that it prunes, or its departure; and as much at random."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_json
from lnsub.pruning.masks import Mask, shuffled
from lnsub.tickets.provenance import DEPARTURES
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Units

What = Literal["kept", "pruned", "departure"]
"""What of a ticket is taken away."""

_DRAWS = 1_000_000  # more than anyone makes, so that draws of different seeds differ


@dataclass(frozen=True)
class Removal:
    """Weights or units to take away.

    Attributes:
        chosen: True at what is taken away: bool of each matrix's shape, or of units [count] by group.
        units: which weights the units consist of; None: single weights.
        shapes: of the parameters that they are weights of, by name.
    """

    chosen: Mask
    units: Units | None
    shapes: dict[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """How many units, or weights where they are no units, are taken away."""
        return self.chosen.kept

    def weights(self) -> dict[str, Tensor]:
        """The weights: bool of each matrix's shape, True where taken away; only matrices that lose any."""
        if self.units is None:
            return {name: bits for name, bits in self.chosen.items() if bits.any()}
        stay = self.units.expanded({name: ~bits.numpy() for name, bits in self.chosen.items()}, self.shapes)
        return {name: torch.from_numpy(~bits) for name, bits in stay.items() if not bits.all()}

    def drawn(self, seed: int, draw: int) -> "Removal":
        """As many units of each group, or weights of each matrix, at random; see :func:`shuffled`.

        Args:
            seed: the run's seed.
            draw: the number of the draw, from 0.
        """
        return replace(self, chosen=shuffled(self.chosen, seed * _DRAWS + draw))


def removal_of(
    ticket: Ticket, what: What, shapes: dict[str, tuple[int, ...]], reference: Ticket | None = None
) -> Removal:
    """Says what of a ticket is taken away.

    Args:
        ticket: the ticket.
        what: ``kept``: what it keeps; ``pruned``: the complement, as applying the ticket does; ``departure``: what it
            keeps and the reference does not.
        shapes: of the model's prunable weights, by name; parameters that only the ticket or only the model has are left
            alone.
        reference: for the departure.

    Raises:
        UserError: nothing is left to take away; the reference has other parameters or units; or the model lacks a
            parameter of the ticket's units.
    """
    units = ticket.units
    names = sorted(shapes.keys() & ticket.shapes.keys())
    chosen = _of(ticket, names)
    if what == "pruned":
        chosen = {name: ~bits for name, bits in chosen.items()}
    elif what == "departure":
        assert reference is not None
        _check_reference(ticket, reference, names)
        other = _of(reference, [name for name in names if name in reference.shapes])
        # What the reference has no mask of, such as a pooler that theta_0 lacks, is no departure from it.
        chosen = {name: bits & ~other[name] for name, bits in chosen.items() if name in other}
    if units is not None and (lacking := set(units.parameters) - shapes.keys()):
        raise UserError(
            f"ticket {ticket.where} is of {units.granularity}s that have weights in {min(lacking)}, which the model "
            "lacks: use the task that it was found on"
        )
    if not any(bits.any() for bits in chosen.values()):
        raise UserError(f"ticket {ticket.where} leaves nothing to take away: its {_WORDS[what]} is empty")
    of_shapes = {name: ticket.shapes[name] for name in names}
    return Removal(Mask({name: torch.from_numpy(bits) for name, bits in chosen.items()}), units, of_shapes)


_WORDS = {"kept": "kept part", "pruned": "pruned part", "departure": "departure"}
assert set(_WORDS) == set(get_args(What))


def _of(ticket: Ticket, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What a ticket keeps: booleans of its units by group, or of the weights of these parameters."""
    bits = ticket.bits()
    return {name: bits[name] for name in names} if ticket.units is None else ticket.units.kept(bits)


def _check_reference(ticket: Ticket, reference: Ticket, names: Sequence[str]) -> None:
    reference.check_base(ticket.provenance.base_fingerprint, ticket.provenance.base_model)
    if ticket.units != reference.units:
        raise UserError(
            f"ticket {ticket.where} is of {ticket.provenance.granularity}s, its reference {reference.where} of "
            f"{reference.provenance.granularity}s: name a reference of the same units with --inherited"
        )
    for name in names:
        if reference.shapes.get(name, ticket.shapes[name]) != ticket.shapes[name]:
            raise UserError(f"{name} has another shape in {reference.where} than in {ticket.where}: compare one model")
    if not any(name in reference.shapes for name in names):
        raise UserError(f"ticket {ticket.where} and its reference {reference.where} have no parameter in common")


def reference_for(ticket: Ticket, references: Sequence[Ticket]) -> Ticket:
    """Finds the reference of a ticket: the only one there is, or that of its sparsity, scope and units.

    Raises:
        UserError: there is none, or more than one.
    """
    if len(references) == 1:
        return references[0]
    p = ticket.provenance

    def fits(other: Ticket) -> bool:
        o = other.provenance
        return abs(o.sparsity - p.sparsity) < 1e-6 and (o.scope, o.granularity) == (p.scope, p.granularity)

    found = [other for other in references if fits(other)]
    same_score = [other for other in found if other.provenance.score == p.score]
    found = same_score or found
    if len(found) != 1:
        raise UserError(
            f"{len(found) or 'none'} of the references has the sparsity {p.sparsity:g}, scope {p.scope} and "
            f"granularity {p.granularity} of ticket {ticket.where}: name exactly one with --inherited"
        )
    return found[0]


def source_of(ticket: Ticket) -> str:
    """The language whose part of the model a ticket is: of a difference or departures, that of the first ticket."""
    p = ticket.provenance
    if p.score.partition(":")[0] in {"difference", DEPARTURES} and p.sources:
        try:
            return str(parse_json(p.sources)["tickets"][0]["language"])
        except (UnreadableError, KeyError, IndexError, TypeError):
            return p.language
    return p.language
