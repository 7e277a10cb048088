"""Applying a ticket to a live model, which need not have the same parameters."""

from dataclasses import dataclass

from lnsub.common.errors import UserError
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket


@dataclass(frozen=True)
class Fit:
    """How far a ticket's parameters and a model's agree.

    Attributes:
        shared: parameters that both have; the mask is applied to these.
        only_ticket: in the ticket, not in the model (for example XNLI's pooler in a tagger); left out.
        only_model: in the model, not in the ticket; left dense.
    """

    shared: tuple[str, ...]
    only_ticket: tuple[str, ...]
    only_model: tuple[str, ...]

    def __str__(self) -> str:
        left_out = f"; {len(self.only_ticket)} of the ticket left out" if self.only_ticket else ""
        dense = f"; {len(self.only_model)} of the model left dense" if self.only_model else ""
        return f"applied to {len(self.shared)} matrices{left_out}{dense}"


def check_fit(ticket: Ticket, subnet: Subnet, base_model: str) -> Fit:
    """Tells which parameters a ticket and a model share, and refuses a ticket of another architecture.

    Args:
        ticket: the ticket.
        subnet: the model.
        base_model: the model's name, for the message.

    Returns:
        What is shared, and what is left out on either side; each in name order.

    Raises:
        UserError: they share no parameter, or one that they share has different shapes.
    """
    shapes = subnet.shapes
    shared = tuple(sorted(shapes.keys() & ticket.shapes.keys()))
    if not shared:
        raise UserError(
            f"The parameters of ticket {ticket.where} (such as {min(ticket.shapes)}) are not those of {base_model} "
            f"(such as {min(shapes)}); it was found on {ticket.provenance.base_model}."
        )
    for name in shared:
        if ticket.shapes[name] != shapes[name]:
            raise UserError(
                f"{name} has the shape {ticket.shapes[name]} in ticket {ticket.where}, "
                f"but {shapes[name]} in {base_model}."
            )
    only_ticket, only_model = ticket.shapes.keys() - shapes.keys(), shapes.keys() - ticket.shapes.keys()
    return Fit(shared, tuple(sorted(only_ticket)), tuple(sorted(only_model)))


def apply_ticket(ticket: Ticket, subnet: Subnet, base_model: str) -> Fit:
    """Sets a ticket's mask on a model: its bits where both have the parameter, all kept where only the model has it.

    Args:
        ticket: the ticket.
        subnet: the model.
        base_model: the model's name, for the message.

    Returns:
        What the mask was applied to, and what was left out.

    Raises:
        UserError: see :func:`check_fit`; the model's mask is then unchanged.
    """
    fit = check_fit(ticket, subnet, base_model)
    bits = Mask.from_packed(ticket.masks, ticket.shapes)
    subnet.set_mask(Mask(dict(Mask.dense(subnet.shapes)) | {name: bits[name] for name in fit.shared}))
    return fit
