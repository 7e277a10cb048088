"""Exact selection: scores, a mask and a sparsity give a smaller mask.

Weights are ranked by the bit pattern of their score's absolute value, which as an integer grows with the value, so
counting takes the place of sorting. A sample of the scores guesses a narrow range of patterns that holds the
threshold; one pass over all scores counts those below the range and makes a histogram of those inside. A wrong guess
shows in the counts and costs another pass, never a wrong mask. Scores are read in place and in blocks: nothing of the
model's size is made but the new mask.

Where weights are shared out among processes, each rank counts its own rows and the counts are added up: no weight ever
leaves its rank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from threading import Lock

import torch
from torch import Tensor

from lnsub.choices import choose
from lnsub.errors import UserError
from lnsub.masks import Mask, require_same_shapes
from lnsub.names import layer_of, stack_of
from lnsub.shards import Ranks, local, with_rows
from lnsub.workers import Workers, workers

SCOPES: Mapping[str, Callable[[str], str]] = {
    "global": lambda name: "all parameters together",
    "layer": lambda name: f"layer {layer_of(name)}",
    "matrix": lambda name: name,
    "stack": lambda name: f"the {stack_of(name)}",
}
"""What is ranked together: the parameters for which the function says the same."""

_INTEGER = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}

# Weights per block. On a CPU its keys stay in the second-level cache; a GPU wants large kernels, but little memory.
_BLOCK_CPU, _BLOCK_GPU = 1 << 18, 1 << 21
_HISTOGRAM_BITS = 20  # 8 MB of counts, so that the guessed range mostly needs one pass
_SAMPLE = 1 << 17  # weights that guess the range


@torch.no_grad()
def select(scores: Mapping[str, Tensor], mask: Mask, sparsity: float, scope: str = "global") -> Mask:
    """Prunes the least important weights of ``mask`` until its sparsity is exactly ``sparsity``.

    The pruning step of iterative magnitude pruning (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635,
    section 1), where the scores are the weights. But for ties, its masks are bit for bit those of
    ``torch.nn.utils.prune``: ``global_unstructured`` (scope ``global``) and ``l1_unstructured`` (scope ``matrix``).

    Args:
        scores: importance by parameter name; a weight counts by its absolute value. float16, bfloat16, float32 or
            float64, and not all need be of one dtype; any shape and strides. Read in place, never written. What a
            pruned weight scores is of no account. They may be shared out among processes by rows (see
            :mod:`lnsub.shards`); then all ranks call this together.
        mask: what is kept now; the names and shapes of ``scores``, all on one device, shared out as they are.
        sparsity: the share to be pruned afterwards, of *all* weights and not of the kept ones, in [0, 1).
        scope: what is ranked together, a key of :data:`SCOPES`: ``global`` all weights, ``layer`` each layer,
            ``matrix`` each parameter, ``stack`` the encoder and the decoder.

    Returns:
        A new mask, a subset of ``mask``, on the same device and shared out likewise. In each group of N weights that
        are ranked together, exactly ``round(sparsity * N)`` are pruned, counting those that were so already: those of
        the smallest scores. Of equal scores, the first in sorted name order and then row-major order are pruned first.
        So the same input gives the same mask, on any device and any number of threads and ranks.

    Raises:
        UserError: ``sparsity`` is out of range, or less than what is pruned already in some group; there is no such
            scope; names, shapes or devices differ; a score is not of those dtypes; a kept weight's score is NaN or
            infinite. The message names the parameter, and is the same on every rank.
        ValueError: scores and mask are not shared out in one way.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"A sparsity is a share of the weights in [0, 1): {sparsity} is not.")
    group_of = choose("scope", scope, SCOPES)
    device = _check_layout(scores, mask)
    ranks = Ranks.sharing([*scores.values(), *mask.values()])
    rows = {name: (local(scores[name].detach()), local(bits)) for name, bits in mask.items()}
    groups: dict[str, list[str]] = {}
    for name in mask:
        groups.setdefault(group_of(name), []).append(name)
    result: dict[str, Tensor] = {}
    with workers(device) as threads:
        _check_values(rows, threads, ranks)
        counts = torch.stack(threads.each(lambda name: torch.count_nonzero(rows[name][1]), mask))
        kept = dict(zip(mask, ranks.sum(counts).tolist(), strict=True))
        unfinished: list[tuple[list[str], int]] = []
        for group, names in groups.items():
            total = sum(mask[name].numel() for name in names)
            pruned = total - sum(kept[name] for name in names)
            quota = round(sparsity * total)
            if pruned > quota:
                raise UserError(
                    f"Sparsity {sparsity:g} with scope {scope} prunes {quota:,} of {total:,} weights in {group}, but "
                    f"{pruned:,} are pruned already and none is ever revived: ask for a higher sparsity, or keep to "
                    "the scope of the earlier rounds."
                )
            if pruned == quota:
                result |= {name: rows[name][1].clone() for name in names}
            else:
                unfinished.append((names, quota))
        for names, quota in unfinished:
            dtype = reduce(torch.promote_types, (scores[name].dtype for name in names))
            parameters = []
            for name in names:
                score, kept_before = rows[name]
                result[name] = torch.empty(kept_before.shape, dtype=torch.bool, device=device)
                parameters.append(_blocks(score, kept_before, result[name], dtype))
            total = sum(mask[name].numel() for name in names)
            _prune(_Group(parameters, total, dtype, device, threads, ranks), quota)
    return Mask({name: with_rows(result[name], mask[name]) for name in mask})


@dataclass(frozen=True)
class _Block:
    """Consecutive weights, in row-major order, of one parameter."""

    score: Tensor
    kept: Tensor
    result: Tensor
    """Where the new mask goes; one-dimensional."""
    dtype: torch.dtype
    """In which scores are compared: the same for all that are ranked together."""

    def keys(self, stride: int = 1, out: Tensor | None = None) -> Tensor:
        """Integers that rank every ``stride``-th weight: 0 if pruned, else above 0 and in the order of |score|.

        They go to the beginning of ``out``, a buffer that is large enough, if there is one.
        """
        integer = _INTEGER[self.dtype]
        patterns = self.score.reshape(-1)[::stride].to(self.dtype).view(integer)
        out = None if out is None else out[: len(patterns)]
        magnitudes = torch.bitwise_and(patterns, torch.iinfo(integer).max, out=out)  # without the sign bit
        return magnitudes.add_(1).mul_(self.kept.reshape(-1)[::stride])


_Strip = Sequence[_Block]
"""Consecutive blocks, which one worker goes through with one set of buffers."""


@dataclass(frozen=True)
class _Group:
    """Weights that are ranked together: as much of them as this rank holds, and what all ranks hold together."""

    parameters: Sequence[Sequence[_Block]]
    """This rank's rows of each parameter, in name order; perhaps no block at all."""
    total: int
    """Weights on all ranks."""
    dtype: torch.dtype
    device: torch.device
    threads: Workers
    ranks: Ranks

    @cached_property
    def strips(self) -> list[_Strip]:
        return self.threads.strips([block for blocks in self.parameters for block in blocks])

    @property
    def integer(self) -> torch.dtype:
        """Of the keys."""
        return _INTEGER[self.dtype]

    def buffer(self, strip: _Strip, dtype: torch.dtype) -> Tensor:
        """For any block of ``strip``: the allocator would not reuse the memory of one temporary for the next."""
        return torch.empty(max(block.score.numel() for block in strip), dtype=dtype, device=self.device)


def _blocks(score: Tensor, kept: Tensor, result: Tensor, dtype: torch.dtype) -> list[_Block]:
    """Cuts one parameter into blocks: views of it, flat ones or, where its strides allow none, whole rows."""
    if not len(score):  # a rank may hold no row of it
        return []
    if score.is_contiguous() and kept.is_contiguous():
        score, kept = score.view(-1), kept.view(-1)
    width = score.numel() // len(score)
    rows = max(1, (_BLOCK_CPU if score.device.type == "cpu" else _BLOCK_GPU) // width)
    parts = zip(score.split(rows), kept.split(rows), result.view(-1).split(rows * width), strict=True)
    return [_Block(*part, dtype) for part in parts]


def _prune(group: _Group, quota: int) -> None:
    """Writes the results: ``quota`` weights False, which is more than are pruned so far."""
    threshold, ties_to_prune = _threshold(group, quota)

    def write(strip: _Strip) -> list[Tensor]:
        buffer = group.buffer(strip, group.integer)
        ties = []
        for block in strip:
            above = block.keys(out=buffer).sub_(threshold)
            torch.gt(above, 0, out=block.result)
            ties.append(above.numel() - torch.count_nonzero(above))
        return ties

    found = [tied for ties in group.threads.each(write, group.strips) for tied in ties]
    ties = iter(torch.stack(found).tolist() if found else [])
    by_block = [[next(ties) for _ in blocks] for blocks in group.parameters]
    by_rank = torch.zeros(group.ranks.count, len(by_block), dtype=torch.int64, device=group.device)
    by_rank[group.ranks.index] = torch.tensor([sum(tied) for tied in by_block])
    in_order = group.ranks.sum(by_rank).T.flatten()  # parameter by parameter, as the ranks hold its rows
    earlier = (in_order.cumsum(0) - in_order).view(len(by_block), -1)[:, group.ranks.index].tolist()
    for blocks, tied_in, before in zip(group.parameters, by_block, earlier, strict=True):
        for block, tied in zip(blocks, tied_in, strict=True):
            pruned = max(0, ties_to_prune - before)
            if tied > pruned:
                spared = (block.keys() == threshold).nonzero()[pruned:, 0]
                block.result[spared] = True
            before += tied


def _threshold(group: _Group, quota: int) -> tuple[int, int]:
    """Finds the ``quota``-th smallest key, and how many weights with exactly this key are among the first ``quota``."""
    bits = min(_HISTOGRAM_BITS, max(8, group.total.bit_length() - 4))
    top = torch.iinfo(group.integer).max  # above all keys: even infinity's would be less
    low, high = _guess(group, quota / group.total, top)
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
            low, high = low + (bins << shift), top
        elif shift:
            low, high = low + ((i - 1) << shift), low + (i << shift)
        else:
            return low + i - 1, quota - int(below[i - 1])


def _guess(group: _Group, share: float, top: int) -> tuple[int, int]:
    """Guesses low and high with low <= key < high for the key that ``share`` of the keys do not exceed.

    Each rank guesses from a sample of its own. The key in question is no less than that of the rank where it is least,
    and no more than that of the rank where it is largest.
    """
    low, high = top, 1
    if group.strips:
        # Odd, as a stride that divides the length of the rows would see a few columns only.
        stride = max(64, group.total // _SAMPLE) | 1
        parts = group.threads.each(lambda strip: torch.cat([block.keys(stride) for block in strip]), group.strips)
        sample = torch.cat(parts).sort().values
        rank = int(share * len(sample))
        margin = 1 + int(1.5 * len(sample) ** 0.5)  # three standard deviations of the rank, or more
        low = max(1, int(sample[rank - margin])) if rank >= margin else 1
        high = int(sample[rank + margin]) + 1 if rank + margin < len(sample) else top
    low, negative = group.ranks.least(torch.tensor([low, -high], device=group.device)).tolist()
    return low, max(-negative, low + 1)


def _histogram(group: _Group, low: int, shift: int, bins: int) -> Tensor:
    """Counts the keys below ``low``, and those in each of ``bins`` ranges of ``2**shift`` keys from ``low`` on.

    ``bins`` is a power of two. The counts are int64, of shape (1 + bins,), and of this rank's rows.
    """
    counts = torch.zeros(1 + bins, dtype=torch.int64, device=group.device)
    one = torch.ones(1, dtype=torch.int64, device=counts.device)
    lock = Lock()

    def add(strip: _Strip) -> Tensor:
        keys, outside = group.buffer(strip, group.integer), group.buffer(strip, group.integer)
        inside = group.buffer(strip, torch.bool)
        below = torch.zeros((), dtype=torch.int64, device=counts.device)
        for block in strip:
            digits = block.keys(out=keys).sub_(low).bitwise_right_shift_(shift)  # negative below low
            size = len(digits)
            torch.bitwise_and(digits, -bins, out=outside[:size])  # 0 where 0 <= digit < bins
            found = digits[torch.eq(outside[:size], 0, out=inside[:size])].long()
            with lock:
                counts[1:].index_add_(0, found, one.expand(len(found)))
            below -= outside[:size].clamp_(-1, 0).sum(dtype=torch.int32)
        return below

    for below in group.threads.each(add, group.strips):
        counts[0] += below
    return counts


def _check_layout(scores: Mapping[str, Tensor], mask: Mask) -> torch.device:
    """Refuses scores that do not fit ``mask``, by what can be told without reading them; returns the device of all."""
    require_same_shapes("the scores", scores, "the mask", mask)
    device = next(iter(mask.values())).device
    for name, bits in mask.items():
        if scores[name].dtype not in _INTEGER:
            raise UserError(
                f"The score of {name!r} has dtype {scores[name].dtype}, which cannot be ranked: use floats."
            )
        for what, tensor in (("score", scores[name]), ("mask", bits)):
            if tensor.device != device:
                raise UserError(f"The {what} of {name!r} is on {tensor.device}, other masks are on {device}.")
    return device


def _check_values(rows: Mapping[str, tuple[Tensor, Tensor]], threads: Workers, ranks: Ranks) -> None:
    """Refuses scores that are NaN or infinite where the mask keeps the weight."""

    def finite(name: str) -> Tensor:
        # Both show in the extremes, so that one quick pass clears a parameter; else it gets a closer look.
        score = rows[name][0]
        extremes = torch.stack(torch.aminmax(score)) if len(score) else score
        return extremes.isfinite().all().int()

    for name, clean in zip(rows, ranks.least(torch.stack(threads.each(finite, rows))).tolist(), strict=True):
        if not clean:
            score, kept = rows[name]
            if bad := int(ranks.sum(torch.count_nonzero(~score.isfinite() & kept))):
                raise UserError(
                    f"The score of {name!r} is NaN or infinite at {bad:,} of its kept weights, so they cannot be "
                    "ranked. Has the training diverged?"
                )
