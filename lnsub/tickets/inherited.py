"""Which tickets an inherited mask, the magnitude mask of theta_0, is compared with."""

import json

from lnsub.tickets.ticket import Ticket


def served_by(mask: Ticket) -> frozenset[str]:
    """Names the parameters of the tickets that an inherited mask serves: its own, and those its ``sources`` leave out.

    A pooler that the checkpoint lacks is left out: it was ranked with the rest, but nothing of it is inherited.
    """
    left_out = json.loads(mask.provenance.sources)["left_out"] if mask.provenance.sources else []
    return frozenset(mask.masks) | frozenset(left_out)
