"""Selection within rows: of each output feature's weights, the same share is pruned.

A row is what one output feature has of a matrix: one weight for each input feature. Rows are short, so the threshold
of each is found by itself, in its own dtype, and nothing is ranked across them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.sharding import Ranks, local, sharded_like, whole, with_rows

_TOGETHER = 1 << 23
"""Weights that are ranked together, which bounds the memory."""


def select_in_rows(
    scores: Mapping[str, Tensor], mask: Mask, sparsity: float, inputs: Mapping[str, int] | None = None
) -> Mask:
    """Prunes the least important weights of each row; :func:`lnsub.pruning.selection.select` with scope ``row``.

    Args:
        scores: as there; names and shapes are those of ``mask``. All ranks hold the whole, or all are sharded.
        mask: what is kept now.
        sparsity: the share of each row that is pruned afterwards, in [0, 1).
        inputs: the axis of the input features by parameter name; the last one for parameters that are not in it.

    Returns:
        A new mask, a subset of ``mask``. Of each row with n weights exactly ``round(sparsity * n)`` are pruned; of
        equal scores, those of the first input features.

    Raises:
        UserError: a kept weight's score is NaN or infinite, or more of a row is pruned already; the same on all ranks.
    """
    ranks = Ranks.sharing([*scores.values(), *mask.values()])
    return Mask(
        {
            name: _pruned(name, scores[name].detach(), bits, sparsity, (inputs or {}).get(name, bits.dim() - 1), ranks)
            for name, bits in mask.items()
        }
    )


def _pruned(name: str, score: Tensor, bits: Tensor, sparsity: float, axis: int, ranks: Ranks) -> Tensor:
    # Ranks hold parts of axis 0: whole rows, unless input features lie along it.
    across = isinstance(bits, DTensor) and axis == 0
    part = whole if across else local
    values, kept = part(score).movedim(axis, -1), part(bits).movedim(axis, -1)
    rows = kept.reshape(-1, kept.shape[-1])
    pruned = (~rows).sum(1)
    count = round(sparsity * rows.shape[1])
    bad = int(torch.count_nonzero(~values.isfinite() & kept))
    bad, over = ranks.sums([bad, int(torch.count_nonzero(pruned > count))])
    if bad:
        raise UserError(
            f"The score of {name!r} is NaN or infinite at some of its kept weights, so they cannot be ranked. Has the "
            "training diverged?"
        )
    if over:
        raise UserError(
            f"Sparsity {sparsity:g} with scope row prunes {count:,} of {rows.shape[1]:,} weights in each row of "
            f"{name}, but in some rows more are pruned already and none is ever revived: choose a higher sparsity, or "
            "keep the scope of the earlier rounds."
        )
    result = rows.clone()
    step = max(1, _TOGETHER // rows.shape[1])
    flat = values.reshape(rows.shape)
    for start in range(0, len(rows) if count else 0, step):
        here = slice(start, start + step)
        result[here] &= ~_lowest(flat[here].abs().masked_fill_(~rows[here], -1.0), count)
    chosen = result.reshape(kept.shape).movedim(-1, axis).contiguous()
    return sharded_like(chosen, bits) if across else with_rows(chosen, bits)


def _lowest(keys: Tensor, count: int) -> Tensor:
    """Marks the ``count`` lowest of each row [rows, n], of equal ones the first."""
    if keys.device.type == "cpu" and keys.dtype in (torch.float32, torch.float64):
        # Three times as fast as torch's.
        threshold = torch.from_numpy(np.partition(keys.numpy(), count - 1, axis=1)[:, count - 1 : count])
    else:
        threshold = keys.kthvalue(count, dim=1, keepdim=True).values
    found = keys <= threshold
    if bool((found.sum(1) == count).all()):
        return found
    lower = keys < threshold
    ties = found ^ lower
    return lower | (ties & (ties.cumsum(1) <= count - lower.sum(1, keepdim=True)))
