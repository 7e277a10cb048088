"""Tickets of units as tickets over units: one bit for each neuron, head or row, for every measure of overlap.

The overlap of two such tickets is the Jaccard similarity of the sets of units that they keep, and all else follows:
chance, departures, the neutrality index.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from lnsub.common.errors import UserError
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Units


def over_units(ticket: Ticket, granularity: str) -> Ticket:
    """Turns a ticket's mask of weights into one of units.

    Args:
        ticket: a ticket of this granularity.
        granularity: ``neuron``, ``head`` or ``row``.

    Returns:
        A ticket with the same provenance whose parameters are the places of units, such as ``layers.3.mlp.neurons``, of
        the shape [units].

    Raises:
        UserError: it is a ticket of another granularity, so that its units are not kept as a whole.
    """
    units = units_of_ticket(ticket, granularity)
    masks = {
        _place(name, units): np.packbits(bits, bitorder="little") for name, bits in units.kept(ticket.bits()).items()
    }
    shapes = {_place(name, units): shape for name, shape in units.shapes.items()}
    return Ticket(masks, shapes, ticket.provenance, ticket.path, ticket.hub_name)


def units_of_ticket(ticket: Ticket, granularity: str) -> Units:
    """A ticket's units, which must be of a granularity; see :func:`over_units`."""
    if ticket.units is None or ticket.units.granularity != granularity:
        found = ticket.provenance.granularity
        raise UserError(
            f"ticket {ticket.where} keeps single {found}s: overlap by {granularity} compares tickets that were found "
            f"with granularity {granularity}"
            if found == "weight"
            else f"ticket {ticket.where} is of granularity {found}, not {granularity}"
        )
    return ticket.units


class UnitMagnitudes(Mapping[str, np.ndarray]):
    """The mean |theta_0| of each unit: what inherited masks of units are ranked by; computed when asked for.

    Args:
        theta_0: the base model's weights by name.
        units: the units.
    """

    def __init__(self, theta_0: Mapping[str, np.ndarray], units: Units) -> None:
        self._theta_0 = theta_0
        self._units = units
        self._groups = {
            _place(group.name, units): group
            for group in units.groups
            if all(member.parameter in theta_0 for member in group.members)
        }

    def __getitem__(self, place: str) -> np.ndarray:
        group = self._groups[place]
        here = Units(self._units.granularity, (group,))
        magnitudes = {member.parameter: np.abs(self._theta_0[member.parameter]) for member in group.members}
        sizes = here.sizes({name: array.shape for name, array in magnitudes.items()})
        return here.sums(magnitudes)[group.name] / sizes[group.name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _place(name: str, units: Units) -> str:
    return f"{name}.{units.granularity}s"
