"""The masks of baselines: random, random from a denser ticket, shuffled, inherited, and one-shot."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0, inherited_masks
from lnsub.models.prunable import input_axes
from lnsub.models.unit_maps import units_of
from lnsub.pruning.granularity import prune, shuffled_units
from lnsub.pruning.masks import Mask, shuffled
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from lnsub.transfer.cells import Cell, OneShot


def baseline_ticket(cell: Cell, base_model: str) -> Ticket:
    """Makes the mask of a cell of any baseline that needs no training.

    Args:
        cell: a ``random``, ``random_from``, ``shuffled`` or ``inherited`` cell.
        base_model: a Hub id or a folder with the checkpoint of theta_0, for an inherited mask.

    Returns:
        The ticket; see :func:`random_ticket` and :func:`lnsub.models.inherited.inherited_masks`.

    Raises:
        UserError: the cell's ticket file, or that which its mask starts from, is corrupt or has been replaced; or
            theta_0 cannot be read, or is not that of the ticket.
    """
    if cell.variant != "inherited":
        return random_ticket(cell)
    assert cell.found is not None
    (ticket,) = inherited_masks(Theta0.load(base_model), [cell.found.load()])
    return ticket


def random_ticket(cell: Cell) -> Ticket:
    """Draws the mask of a ``random``, ``random_from`` or ``shuffled`` cell.

    Args:
        cell: the cell, whose seed is used.

    Returns:
        A ticket with the parameters of the cell's ticket. A random one has the same sparsity overall, a shuffled one in
        each parameter. One that starts from a denser ticket keeps a random part of what that keeps; of one seed, a
        sparser one keeps a part of what a denser one keeps.

    Raises:
        UserError: the cell's ticket file is corrupt, or has been replaced by another.
    """
    assert cell.found is not None
    original = cell.found.load()
    units = original.units
    if cell.variant == "shuffled":
        mask = Mask.from_packed(original.masks, original.shapes)
        mask = shuffled_units(mask, units, cell.seed) if units else shuffled(mask, cell.seed)
        changes: dict[str, Any] = {}
    elif cell.start is not None:
        start = cell.start.load()
        kept = Mask.from_packed(start.masks, start.shapes)
        if kept.total - kept.kept > round(cell.sparsity * kept.total):
            raise UserError(f"ticket {start.where} has pruned more than the share {cell.sparsity:g} already")
        mask = prune(_random(kept, cell), kept, cell.sparsity, "global", units)
        changes = {"round": -1, "schedule": f"random from {cell.start.name}"}
    else:
        dense = Mask.dense(original.shapes)
        mask = prune(_random(dense, cell), dense, cell.sparsity, "global", units)
        changes = {"language": "random", "round": -1, "scope": "global", "schedule": "random"}
    changes |= {"score": cell.score, "seed": cell.seed, "metric": "", "sources": ""}
    return Ticket(mask.to_packed(), mask.shapes, dataclasses.replace(original.provenance, **changes))


def _random(mask: Mask, cell: Cell) -> Mapping[str, Tensor]:
    return score("random", ScoreInputs(weights=mask, seed=cell.seed))


def pruned_once(module: SubnetModule, cell: Cell, one_shot: OneShot) -> Ticket:
    """Prunes a trained dense model by magnitude in one step.

    Args:
        module: the trained model; not modified.
        cell: the cell that it was trained in.
        one_shot: the sparsity and the scope.

    Returns:
        The ticket.
    """
    weights = {name: weight.detach().cpu() for name, weight in module.subnet.weights.items()}
    dense = Mask.dense(module.subnet.shapes)
    units = units_of(module.model, one_shot.granularity)
    scores = score("magnitude", ScoreInputs(weights=weights))
    mask = prune(scores, dense, one_shot.sparsity, one_shot.scope, units, input_axes(module.model))
    mask = mask if units is None else mask.restricted(units.parameters)
    provenance = Provenance(
        base_model=module.base_model,
        base_fingerprint=module.fingerprint,
        task=cell.task,
        language=cell.language,
        seed=cell.seed,
        round=1,
        sparsity=one_shot.sparsity,
        score="oneshot",
        scope=one_shot.scope,
        schedule="oneshot",
        granularity=one_shot.granularity,
        units=units.to_json() if units else "",
    )
    return Ticket(mask.to_packed(), mask.shapes, provenance)
