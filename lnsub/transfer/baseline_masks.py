"""The masks of baselines: random, shuffled, and one-shot."""

import dataclasses
from typing import Any

from lnsub.pruning.masks import Mask, shuffled
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.pruning.selection import select
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from lnsub.transfer.cells import Cell, OneShot


def random_ticket(cell: Cell) -> Ticket:
    """Draws the mask of a ``random`` or ``shuffled`` cell.

    Args:
        cell: the cell, whose seed is used.

    Returns:
        A ticket with the parameters of the cell's ticket. A random one has the same sparsity overall, a shuffled one in
        each parameter.

    Raises:
        UserError: the cell's ticket file is corrupt, or has been replaced by another.
    """
    assert cell.found is not None
    original = cell.found.load()
    if cell.variant == "shuffled":
        mask = shuffled(Mask.from_packed(original.masks, original.shapes), cell.seed)
        changes: dict[str, Any] = {}
    else:
        dense = Mask.dense(original.shapes)
        mask = select(score("random", ScoreInputs(weights=dense, seed=cell.seed)), dense, cell.sparsity)
        changes = {"language": "random", "round": -1, "scope": "global", "schedule": "random"}
    changes |= {"score": cell.variant, "seed": cell.seed, "metric": "", "sources": ""}
    return Ticket(mask.to_packed(), mask.shapes, dataclasses.replace(original.provenance, **changes))


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
    mask = select(score("magnitude", ScoreInputs(weights=weights)), dense, one_shot.sparsity, one_shot.scope)
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
    )
    return Ticket(mask.to_packed(), mask.shapes, provenance)
