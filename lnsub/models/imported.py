"""Tickets from masks that other programs wrote, with the base model that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnsub.common.errors import UserError
from lnsub.models.foreign_masks import read_foreign
from lnsub.models.inherited import Theta0
from lnsub.pruning.masks import Mask
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket

IMPORTED = "imported"
"""Score and schedule of an imported ticket: whatever the other program did."""


@dataclass(frozen=True)
class Imported:
    """A ticket from elsewhere.

    Attributes:
        ticket: the ticket.
        remarks: what a reader should know of how it was read; each a sentence.
    """

    ticket: Ticket
    remarks: Sequence[str]


def import_masks(
    source: str | Path, base_model: str, *, task: str, language: str, seed: int = -1, scope: str, metric: str = ""
) -> Imported:
    """Makes a ticket from masks, or from the zeros of a pruned checkpoint.

    Args:
        source: see :func:`lnsub.models.foreign_masks.read_foreign`.
        base_model: a Hub id or a folder: the model whose weights the masks are for, as it was before any pruning.
        task: what the sub-network was found on; a plain name.
        language: likewise.
        seed: the seed of the run that found it; -1: not known.
        scope: what was ranked together there; a key of :data:`lnsub.pruning.scopes.SCOPES`.
        metric: ``name=value``; empty: not known.

    Raises:
        UserError: the source cannot be used, see :func:`read_foreign`; nothing is pruned in it, or everything; or the
            base model cannot be loaded.
    """
    theta_0 = Theta0.load(base_model)
    every = {**theta_0.weights, **theta_0.drawn}
    found = read_foreign(source, {name: tuple(weight.shape) for name, weight in every.items()})
    mask = Mask(found.bits)
    remarks = []
    if found.from_weights:
        # A weight that is 0 in theta_0 is 0 whether or not it was pruned.
        unclear = sum(
            int((~bits & (theta_0.weights[name] == 0)).sum())
            for name, bits in found.bits.items()
            if name in theta_0.weights
        )
        zeros = mask.total - mask.kept
        if zeros and unclear == zeros:
            raise UserError(f"{source} has no zero that {base_model} has not as well, so nothing of it is pruned")
        if unclear:
            remarks.append(f"{unclear:,} of its {zeros:,} zeros are 0 in the base model too, and are taken as pruned.")
    if mask.kept in (0, mask.total):
        raise UserError(f"{source} prunes {'everything' if mask.kept == 0 else 'nothing'}, which makes no ticket")
    if found.left_out:
        remarks.append(
            f"Left out, as a ticket has no such masks: {', '.join(found.left_out[:3])}"
            f"{f' and {len(found.left_out) - 3:,} more' if len(found.left_out) > 3 else ''}."
        )
    if missing := sorted(every.keys() - found.bits.keys()):
        remarks.append(f"It has no mask of {', '.join(missing)}, so the ticket has none either.")
    provenance = Provenance(
        base_model=base_model,
        base_fingerprint=theta_0.fingerprint,
        task=task,
        language=language,
        seed=seed,
        round=-1,
        sparsity=_nominal(mask),
        score=IMPORTED,
        scope=scope,
        schedule=IMPORTED,
        metric=metric,
    )
    return Imported(Ticket(mask.to_packed(), mask.shapes, provenance), remarks)


def _nominal(mask: Mask) -> float:
    """The sparsity that was asked for: the measured one, without what rounding in each matrix may have added."""
    measured = 1 - mask.kept / mask.total
    nominal = round(measured, 4)
    return nominal if abs(nominal - measured) * mask.total <= len(mask) else round(measured, 6)
