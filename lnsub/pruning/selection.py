"""Exact selection: scores, a mask and a sparsity give a smaller mask.

Weights are ranked by the bit pattern of their score's absolute value, which as an integer grows with the value, so
counting takes the place of sorting. A sample of the scores guesses a narrow range of patterns that holds the
threshold; one pass over all scores counts those below the range and makes a histogram of those inside. A wrong guess
shows in the counts and costs another pass, never a wrong mask. Scores are read in place and in blocks: the new mask is
the only thing of the model's size that is made.

On a GPU the number of launches and of round trips to it does not depend on how many parameters are ranked together:
they are taken in chunks of a fixed number of weights (:mod:`lnsub.pruning.chunks`).

Where weights are sharded, each rank counts in its own rows and the counts are summed: no weight ever leaves its rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from threading import Lock

import torch
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.common.threads import Workers, workers
from lnsub.common.torch_internals import copy_all, largest
from lnsub.pruning.chunks import INTEGER, Chunk, cut
from lnsub.pruning.masks import Mask, require_same_shapes
from lnsub.pruning.rows import select_in_rows
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.sharding import Ranks, local, with_rows

_HISTOGRAM_BITS = 20  # 8 MB of counts, so that the guessed range mostly needs one pass
_SAMPLE = 1 << 17  # weights that the range is guessed from


@torch.no_grad()
def select(
    scores: Mapping[str, Tensor],
    mask: Mask,
    sparsity: float,
    scope: str = "global",
    inputs: Mapping[str, int] | None = None,
) -> Mask:
    """Prunes the least important weights of ``mask`` until its sparsity is exactly ``sparsity``.

    The pruning step of iterative magnitude pruning (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635,
    section 1), where the scores are the weights. Except for ties, its masks are bit for bit those of
    ``torch.nn.utils.prune``: ``global_unstructured`` (scope ``global``) and ``l1_unstructured`` (scope ``matrix``).

    Args:
        scores: importance by parameter name; a weight counts by its absolute value. float16, bfloat16, float32 or
            float64, not necessarily all of one dtype; any shape and strides. Read in place, never written. The score
            of a pruned weight is ignored. They may be sharded by rows (see :mod:`lnsub.pruning.sharding`); then all
            ranks call this together.
        mask: what is kept now; the names and shapes of ``scores``, all on one device, sharded as they are.
        sparsity: the share to be pruned afterwards, of *all* weights and not of the kept ones, in [0, 1).
        scope: what is ranked together, a key of :data:`lnsub.pruning.scopes.SCOPES`: ``global`` all weights, ``layer``
            each layer, ``matrix`` each parameter, ``stack`` the encoder and the decoder, ``row`` each row of each
            parameter (:mod:`lnsub.pruning.rows`).
        inputs: for ``row``: the axis of a parameter's input features, by name; without it, the last one.

    Returns:
        A new mask, a subset of ``mask``, on the same device and sharded in the same way. In each group of N weights
        that are ranked together, exactly ``round(sparsity * N)`` are pruned, including those that were already: those
        with the smallest scores. Of equal scores, the first in sorted name order and then row-major order are pruned
        first. So the same input gives the same mask, on any device and with any number of threads and ranks.

    Raises:
        UserError: ``sparsity`` is out of range, or less than what is already pruned in some group; there is no such
            scope; names, shapes or devices differ; a score has another dtype; a kept weight's score is NaN or
            infinite. The message names the parameter, and is the same on every rank.
        ValueError: scores and mask are not all sharded in the same way.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"A sparsity is a share of the weights in [0, 1): {sparsity} is not.")
    group_of = lookup("scope", scope, SCOPES)
    device = _check_layout(scores, mask)
    if scope == "row":
        return select_in_rows(scores, mask, sparsity, inputs)
    ranks = Ranks.sharing([*scores.values(), *mask.values()])
    rows = {name: _Rows(local(scores[name].detach()), local(bits)) for name, bits in mask.items()}
    with workers(device) as threads:
        _check_values(rows, threads, ranks)
        groups: dict[str, list[str]] = {}
        for name in mask:
            groups.setdefault(group_of(name), []).append(name)
        ranked = [_Group.of([rows[n] for n in names], threads, ranks) for names in groups.values()]
        totals = [sum(mask[name].numel() for name in names) for names in groups.values()]
        quotas = [round(sparsity * total) for total in totals]
        pruned = [total - kept for total, kept in zip(totals, _kept(ranked, threads, ranks), strict=True)]
        for group, total, quota, already in zip(groups, totals, quotas, pruned, strict=True):
            if already > quota:
                raise UserError(
                    f"Sparsity {sparsity:g} with scope {scope} prunes {quota:,} of {total:,} weights in "
                    f"{group}, but {already:,} are pruned already and none is ever revived: choose a higher sparsity, "
                    "or keep the scope of the earlier rounds."
                )
        for names, weights, total, quota, already in zip(groups.values(), ranked, totals, quotas, pruned, strict=True):
            if already < quota:
                _prune(weights, quota, total)
            else:
                copy_all([rows[name].result for name in names], [rows[name].kept for name in names])
    return Mask({name: with_rows(rows[name].result, bits) for name, bits in mask.items()})


class _Rows:
    """One parameter's weights on this rank: all of its rows, or some, or none."""

    def __init__(self, score: Tensor, kept: Tensor) -> None:
        self.score = score
        self.kept = kept
        self.result = torch.empty(kept.shape, dtype=torch.bool, device=kept.device)


@dataclass(frozen=True)
class _Group:
    """The weights on this rank that are ranked together, with those on others."""

    stretches: Sequence[Sequence[Chunk]]
    """The weights in order. Other ranks' weights come only between two stretches."""
    dtype: torch.dtype
    device: torch.device
    threads: Workers
    ranks: Ranks

    @classmethod
    def of(cls, parameters: Sequence[_Rows], threads: Workers, ranks: Ranks) -> "_Group":
        """Cuts parameters into chunks, which one worker goes through each."""
        device = parameters[0].score.device
        dtype = reduce(torch.promote_types, (rows.score.dtype for rows in parameters))
        stretches = [parameters] if ranks.count == 1 else [[rows] for rows in parameters]
        return cls(
            [
                cut(((r.score, r.kept, r.result) for r in stretch), dtype, threads, host=_on_host(device))
                for stretch in stretches
            ],
            dtype,
            device,
            threads,
            ranks,
        )

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All chunks, in order; none where this rank holds no row."""
        return [chunk for stretch in self.stretches for chunk in stretch]

    @property
    def top(self) -> int:
        """A number above all keys: even infinity's would be less."""
        return torch.iinfo(INTEGER[self.dtype]).max


def _kept(groups: Sequence[_Group], threads: Workers, ranks: Ranks) -> list[int]:
    """Counts what each group keeps so far, on all ranks."""
    every = [(i, chunk) for i, group in enumerate(groups) for chunk in group.chunks]
    kept = [0] * len(groups)
    counts = threads.each(lambda each: each[1].kept(), every)
    for (i, _), count in zip(every, torch.stack(counts).tolist() if counts else [], strict=True):
        kept[i] += count
    return ranks.sums(kept)


def _prune(group: _Group, quota: int, total: int) -> None:
    """Writes the results: ``quota`` of ``total`` weights False, which is more than are pruned so far."""
    threshold, ties_to_prune, ties = _threshold(group, quota, total)
    some_ties_kept = ties > ties_to_prune
    counts = group.threads.each(lambda chunk: chunk.write(threshold, some_ties_kept), group.chunks)
    if not some_ties_kept:
        return
    counted = iter(torch.cat(counts).tolist() if counts else [])
    tied = [[(chunk, p, next(counted)) for chunk in of for p in range(len(chunk.parts))] for of in group.stretches]
    earlier = group.ranks.sums_before([sum(n for _, _, n in of) for of in tied])
    kept_ties: dict[Chunk, dict[int, int]] = {}
    for of, before in zip(tied, earlier, strict=True):
        to_prune = max(0, ties_to_prune - before)
        for chunk, p, n in of:
            if n > to_prune:
                kept_ties.setdefault(chunk, {})[p] = to_prune
            to_prune = max(0, to_prune - n)
    group.threads.each(lambda chunk: chunk.keep_ties(threshold, kept_ties[chunk]), kept_ties)


def _threshold(group: _Group, quota: int, total: int) -> tuple[int, int, int]:
    """Finds the ``quota``-th smallest key, how many equal keys are among the first ``quota``, and how many in all."""
    bits = min(_HISTOGRAM_BITS, max(8, total.bit_length() - 4))
    low, high = _guess(group, quota, total)
    while True:
        span = (high - low - 1).bit_length()
        shift = max(0, span - bits)
        bins = 1 << (span - shift)
        # below[i]: how many keys are less than low + i * 2**shift
        below = group.ranks.sum(_histogram(group, low, shift, bins)).cumsum(0)
        i = int(torch.searchsorted(below, quota))
        if i == 0:
            low, high = 1, low
        elif i > bins:
            low, high = low + (bins << shift), group.top
        elif shift:
            low, high = low + ((i - 1) << shift), low + (i << shift)
        else:
            before, after = below[i - 1 : i + 1].tolist()
            return low + i - 1, quota - before, after - before


def _guess(group: _Group, quota: int, total: int) -> tuple[int, int]:
    """Guesses low and high with low <= key < high for the ``quota``-th smallest of ``total`` keys.

    Each rank guesses from a sample of its own rows. The range from the lowest guess to the highest is then a good one:
    no rank's share of the weights can have less than its quota below all guesses, or more below each of them.
    """
    low, high = group.top, 1
    if group.chunks:
        # Odd, as a stride that divides the length of the rows would see a few columns only.
        stride = max(64, total // _SAMPLE) | 1
        sample = torch.cat(group.threads.each(lambda chunk: chunk.sample(stride), group.chunks)).sort().values
        rank = int(quota / total * len(sample))
        margin = 1 + int(1.5 * len(sample) ** 0.5)  # three standard deviations of the rank, or more
        ends = sample[max(0, rank - margin)], sample[min(len(sample) - 1, rank + margin)]
        low, high = torch.stack(ends).tolist()
        low = max(1, low) if rank >= margin else 1
        high = high + 1 if rank + margin < len(sample) else group.top
    low, negative = group.ranks.least([low, -high])
    return low, max(-negative, low + 1)


def _histogram(group: _Group, low: int, shift: int, bins: int) -> Tensor:
    """Counts this rank's keys below ``low``, and those in each of ``bins`` ranges of ``2**shift`` keys from there on.

    The counts are int64, of shape (1 + bins,), on the weights' device.
    """
    counts = torch.zeros(1 + bins, dtype=torch.int64, device=group.device)
    one = torch.ones(1, dtype=torch.int64, device=group.device)
    lock = Lock()

    def add(chunk: Chunk) -> Tensor:
        total = torch.zeros((), dtype=torch.int64, device=group.device)
        for below, found in chunk.between(low, min(low + (bins << shift), group.top)):
            digits = found.bitwise_right_shift_(shift).long()
            with lock:
                counts[1:].index_add_(0, digits, one.expand(len(digits)))
            total += below
        return total

    if found := group.threads.each(add, group.chunks):
        counts[0] = torch.stack(found).sum()
    return counts


def _check_layout(scores: Mapping[str, Tensor], mask: Mask) -> torch.device:
    """Refuses scores that do not fit ``mask``, without reading their values; returns the device that all are on."""
    require_same_shapes("the scores", scores, "the mask", mask)
    device = next(iter(mask.values())).device
    for name, bits in mask.items():
        if scores[name].dtype not in INTEGER:
            raise UserError(
                f"The score of {name!r} has dtype {scores[name].dtype}, which cannot be ranked: use floats."
            )
        for what, tensor in (("score", scores[name]), ("mask", bits)):
            if tensor.device != device:
                raise UserError(f"The {what} of {name!r} is on {tensor.device}, other masks are on {device}.")
    return device


def _check_values(rows: Mapping[str, _Rows], threads: Workers, ranks: Ranks) -> None:
    """Refuses scores that are NaN or infinite where the mask keeps the weight."""
    # Both show in the extremes, so one quick pass clears a parameter; the others get a closer look.
    here = {name: parameter.score for name, parameter in rows.items() if len(parameter.score)}
    if _on_host(next(iter(rows.values())).score.device):
        finite = threads.each(lambda score: torch.stack(torch.aminmax(score)).isfinite().all(), here.values())
    else:
        # A few launches for all parameters; the largest absolute value is NaN where there is a NaN.
        finite = [*torch.stack(largest(here.values())).isfinite()] if here else []
    clean = dict.fromkeys(rows, True) | dict(zip(here, torch.stack(finite).tolist() if finite else [], strict=True))
    for (name, parameter), good in zip(rows.items(), ranks.least([*clean.values()]), strict=True):
        if not good:
            (bad,) = ranks.sums([int(torch.count_nonzero(~parameter.score.isfinite() & parameter.kept))])
            if bad:
                raise UserError(
                    f"The score of {name!r} is NaN or infinite at {bad:,} of its kept weights, so they cannot be "
                    "ranked. Has the training diverged?"
                )


def _on_host(device: torch.device) -> bool:
    """Whether work there is cheap to start: no launch, and no answer to wait for."""
    return device.type == "cpu"
