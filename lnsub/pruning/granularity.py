"""Pruning by units: scores of weights become scores of units, units are ranked, and masks cover all their weights.

A unit's score is the mean of the absolute scores of its weights. Units are few, so they are simply sorted.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.pruning.masks import Mask, generator_for
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.selection import select
from lnsub.pruning.sharding import sharded_like, whole
from lnsub.tickets.units import Member, Units

_NO_SCOPES = frozenset({"row"})


def prune(
    scores: Mapping[str, Tensor],
    mask: Mask,
    sparsity: float,
    scope: str,
    units: Units | None,
    inputs: Mapping[str, int] | None = None,
) -> Mask:
    """Prunes weights, see :func:`lnsub.pruning.selection.select`, or units, see :func:`select_units`."""
    if units is None:
        return select(scores, mask, sparsity, scope, inputs)
    return select_units(scores, mask, sparsity, scope, units)


@torch.no_grad()
def unit_scores(scores: Mapping[str, Tensor], units: Units) -> dict[str, Tensor]:
    """Reduces scores to units: the mean of the absolute scores of each unit's weights.

    Args:
        scores: importance by parameter name; those of ``units.parameters`` at least. Sharded ones are gathered, one
            parameter at a time: all ranks call this together.
        units: the units.

    Returns:
        float64 [count] on the CPU, by group.
    """
    sums: dict[str, dict[int, Tensor]] = {name: {} for name in units.parameters}
    # Each parameter is read once, although several groups (experts) may share it.
    for name in units.parameters:
        magnitudes = whole(scores[name].detach()).abs()
        for member in (m for group in units.groups for m in group.members if m.parameter == name):
            sums[name][id(member)] = _across(magnitudes, member).double().cpu()
    sizes = units.sizes({name: tuple(scores[name].shape) for name in units.parameters})
    found = {}
    for group in units.groups:
        total = torch.zeros(group.count, dtype=torch.float64)
        for member in group.members:
            along = sums[member.parameter][id(member)]
            at = torch.from_numpy(member.positions(group.count, len(along)))
            total.index_add_(0, at[at >= 0], along[at >= 0])
        found[group.name] = total / torch.from_numpy(sizes[group.name])
    return found


def select_units(scores: Mapping[str, Tensor], mask: Mask, sparsity: float, scope: str, units: Units) -> Mask:
    """Prunes the least important units of ``mask`` until its sparsity is as near to ``sparsity`` as units allow.

    Args:
        scores: importance of weights by parameter name, see :func:`lnsub.pruning.selection.select`.
        mask: what is kept now, of units as a whole; parameters in which no unit lies are returned as they are.
        sparsity: the share of the weights in ``units.parameters`` that are to be pruned afterwards, in [0, 1).
        scope: what is ranked together: ``global``, ``layer``, ``stack``, or ``matrix`` for the units of one place.
        units: the units.

    Returns:
        A new mask, a subset of ``mask``. Of equal scores, the units of the first group in name order, and there the
        first, are pruned first.

    Raises:
        UserError: a value is out of range or NaN, no such scope, a unit is kept in part, or more is pruned already.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"A sparsity is a share of the weights in [0, 1): {sparsity} is not.")
    if scope in _NO_SCOPES:
        raise UserError(f"scope {scope} ranks single weights within a row: choose another for {units.granularity}s.")
    group_of = lookup("scope", scope, SCOPES)
    ranked = unit_scores(scores, units)
    kept = units.kept({name: whole(mask[name]).cpu().numpy() for name in units.parameters})
    sizes = units.sizes(mask.shapes)
    together: dict[str, list[str]] = {}
    for group in units.groups:
        together.setdefault(group_of(f"{group.name}.weight"), []).append(group.name)
    for where, names in together.items():
        value = torch.cat([ranked[name] for name in names])
        alive = np.concatenate([kept[name] for name in names])
        size = np.concatenate([sizes[name] for name in names])
        if not value[torch.from_numpy(alive)].isfinite().all():
            raise UserError(
                f"The scores of some {units.granularity}s in {where} are NaN or infinite, so they cannot be ranked. "
                "Has the training diverged?"
            )
        value[torch.from_numpy(~alive)] = -1.0  # before all others, whose scores are not negative
        order = torch.argsort(value, stable=True).numpy()
        pruned = np.concatenate([[0], np.cumsum(size[order])])
        count = int(np.abs(pruned - sparsity * size.sum()).argmin())
        if count < (already := int((~alive).sum())):
            raise UserError(
                f"Sparsity {sparsity:g} prunes {count:,} of {len(size):,} {units.granularity}s in {where}, but "
                f"{already:,} are pruned already and none is ever revived: choose a higher sparsity, or keep the scope "
                "of the earlier rounds."
            )
        alive[order[:count]] = False
        ends = np.cumsum([len(kept[name]) for name in names])[:-1]
        kept |= dict(zip(names, np.split(alive, ends), strict=True))
    return with_units(mask, kept, units)


def with_units(mask: Mask, kept: Mapping[str, np.ndarray], units: Units) -> Mask:
    """Keeps other units of a mask; parameters in which no unit lies stay as they are.

    Args:
        mask: any mask with ``units.parameters``.
        kept: booleans by group, [count].
        units: the units.
    """
    bits = units.expanded(kept, mask.shapes)
    return Mask({name: _like(bits[name], old) if name in bits else old for name, old in mask.items()})


def shuffled_units(mask: Mask, units: Units, seed: int) -> Mask:
    """Moves the kept units of each group to random places, as :func:`lnsub.pruning.masks.shuffled` does with weights.

    Args:
        mask: a mask of ``units.parameters``.
        units: the units.
        seed: same seed, same places.
    """
    kept = units.kept({name: mask[name].cpu().numpy() for name in units.parameters})
    for name, bits in kept.items():
        order = torch.randperm(len(bits), generator=generator_for("shuffled", seed, name))
        kept[name] = bits[order.numpy()]
    return with_units(mask, kept, units)


def _like(bits: np.ndarray, old: Tensor) -> Tensor:
    return sharded_like(torch.from_numpy(bits).to(old.device), old)


def _across(magnitudes: Tensor, member: Member) -> Tensor:
    """Sums over all axes but the one along which units lie."""
    if member.expert is not None:
        magnitudes = magnitudes[member.expert]
    axis = member.axis - (member.expert is not None)
    others = [a for a in range(magnitudes.dim()) if a != axis]
    return magnitudes.sum(others, dtype=torch.float64)
