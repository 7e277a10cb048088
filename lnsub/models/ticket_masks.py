"""Which mask a ticket means for a live model: the two need not have the same parameters."""

from lnsub.common.errors import UserError
from lnsub.models.subnet import Fit, Subnet
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket


def check_fit(ticket: Ticket, subnet: Subnet, base_model: str) -> Fit:
    """Tells which parameters a ticket and a model share, and refuses a ticket that is another architecture's.

    Args:
        ticket: the ticket.
        subnet: the model.
        base_model: the model's name, for the message.

    Returns:
        What is shared, and what is left out on either side.

    Raises:
        UserError: they share no parameter, or one that they share has different shapes.
    """
    fit = subnet.fit(ticket.shapes)
    if not fit.shared:
        raise UserError(
            f"The parameters of ticket {ticket.where} (such as {min(ticket.shapes)}) are not those of {base_model} "
            f"(such as {min(subnet.shapes)}); it was found on {ticket.provenance.base_model}."
        )
    for name in fit.shared:
        if ticket.shapes[name] != subnet.shapes[name]:
            raise UserError(
                f"{name} has the shape {ticket.shapes[name]} in ticket {ticket.where}, "
                f"but {subnet.shapes[name]} in {base_model}."
            )
    return fit


def mask_of(ticket: Ticket, subnet: Subnet) -> Mask:
    """Makes the mask that a ticket means for a model that :func:`check_fit` has let pass.

    Args:
        ticket: the ticket.
        subnet: the model.

    Returns:
        A mask over all of the model's prunable weights, on the CPU: the ticket's bits where both have the parameter,
        all kept where only the model has it.
    """
    mask = dict(Mask.dense(subnet.shapes))
    mask |= {n: bits for n, bits in Mask.from_packed(ticket.masks, ticket.shapes).items() if n in mask}
    return Mask(mask)
