"""Which tickets an inherited mask, the magnitude mask of theta_0, is compared with."""

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_json
from lnsub.tickets.ticket import Ticket


def served_by(mask: Ticket) -> frozenset[str]:
    """Names the parameters of the tickets that an inherited mask serves: its own, and those its ``sources`` leave out.

    A pooler that the checkpoint lacks is left out: it was ranked with the rest, but nothing of it is inherited.

    Raises:
        UserError: its ``sources`` cannot be read.
    """
    if not mask.provenance.sources:
        return frozenset(mask.masks)
    try:
        left_out = parse_json(mask.provenance.sources)["left_out"]
        return frozenset(mask.masks) | frozenset(map(str, left_out))
    except (UnreadableError, KeyError, TypeError) as error:
        raise UserError(f"the 'sources' of ticket {mask.where} cannot be read: make it again") from error
