"""Exact selection: scores, a mask and a sparsity give a smaller mask.

Weights are ranked by the bit pattern of their score's absolute value, which as an integer grows with the value, so
counting takes the place of sorting. A sample of the scores guesses a narrow range of patterns that holds the
threshold; one pass over all scores counts those below the range and makes a histogram of those inside. A wrong guess
shows in the counts and costs another pass, never a wrong mask. Scores are read in place and in blocks: nothing of the
model's size is made but the new mask.

On a GPU the number of launches and of round trips to it does not depend on how many parameters are ranked together:
they are taken in chunks of a fixed number of weights (:mod:`lnsub.strips`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from threading import Lock

import torch
from torch import Tensor

from lnsub.choices import choose
from lnsub.errors import UserError
from lnsub.masks import Mask, require_same_shapes
from lnsub.names import layer_of, stack_of
from lnsub.strips import INTEGER, Strip, cut
from lnsub.workers import Workers, workers

SCOPES: Mapping[str, Callable[[str], str]] = {
    "global": lambda name: "all parameters together",
    "layer": lambda name: f"layer {layer_of(name)}",
    "matrix": lambda name: name,
    "stack": lambda name: f"the {stack_of(name)}",
}
"""What is ranked together: the parameters for which the function says the same."""

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
            pruned weight scores is of no account.
        mask: what is kept now; the names and shapes of ``scores``, all on one device.
        sparsity: the share to be pruned afterwards, of *all* weights and not of the kept ones, in [0, 1).
        scope: what is ranked together, a key of :data:`SCOPES`: ``global`` all weights, ``layer`` each layer,
            ``matrix`` each parameter, ``stack`` the encoder and the decoder.

    Returns:
        A new mask, a subset of ``mask``, on the same device. In each group of N weights that are ranked together,
        exactly ``round(sparsity * N)`` are pruned, counting those that were so already: those of the smallest scores.
        Of equal scores, the first in sorted name order and then row-major order are pruned first. So the same input
        gives the same mask, on any device and any number of threads.

    Raises:
        UserError: ``sparsity`` is out of range, or less than what is pruned already in some group; there is no such
            scope; names, shapes or devices differ; a score is not of those dtypes; a kept weight's score is NaN or
            infinite. The message names the parameter.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"A sparsity is a share of the weights in [0, 1): {sparsity} is not.")
    group_of = choose("scope", scope, SCOPES)
    device = _check_layout(scores, mask)
    groups: dict[str, list[str]] = {}
    for name in mask:
        groups.setdefault(group_of(name), []).append(name)
    result = {name: torch.empty(bits.shape, dtype=torch.bool, device=device) for name, bits in mask.items()}
    with workers(device) as threads:
        _check_values(scores, mask, threads)
        strips = {group: _strips(scores, mask, result, names, threads) for group, names in groups.items()}
        kept = _kept(strips, threads)
        quotas = {}
        for group, names in groups.items():
            total = sum(mask[name].numel() for name in names)
            pruned = total - kept[group]
            quotas[group] = round(sparsity * total)
            if pruned > quotas[group]:
                raise UserError(
                    f"Sparsity {sparsity:g} with scope {scope} prunes {quotas[group]:,} of {total:,} weights in "
                    f"{group}, but {pruned:,} are pruned already and none is ever revived: ask for a higher sparsity, "
                    "or keep to the scope of the earlier rounds."
                )
        for group, names in groups.items():
            if sum(strip.numel for strip in strips[group]) - kept[group] < quotas[group]:
                _prune(strips[group], quotas[group], threads)
            else:
                torch._foreach_copy_([result[name] for name in names], [mask[name] for name in names])
    return Mask(result)


def _strips(
    scores: Mapping[str, Tensor], mask: Mask, result: Mapping[str, Tensor], names: Sequence[str], threads: Workers
) -> list[Strip]:
    """Cuts the parameters of one group into strips, which one worker goes through each."""
    dtype = reduce(torch.promote_types, (scores[name].dtype for name in names))
    parameters = ((scores[name].detach(), mask[name], result[name]) for name in names)
    return cut(parameters, dtype, threads, host=mask[names[0]].device.type == "cpu")


def _kept(strips: Mapping[str, Sequence[Strip]], threads: Workers) -> dict[str, int]:
    """Counts what each group keeps so far."""
    every = [(group, strip) for group, of_group in strips.items() for strip in of_group]
    counts = torch.stack(threads.each(lambda each: each[1].kept(), every)).tolist()
    kept = dict.fromkeys(strips, 0)
    for (group, _), count in zip(every, counts, strict=True):
        kept[group] += count
    return kept


def _prune(strips: Sequence[Strip], quota: int, threads: Workers) -> None:
    """Writes the results: ``quota`` weights False, which is more than are pruned so far."""
    threshold, ties_to_prune = _threshold(strips, quota, threads)
    ties = torch.stack(threads.each(lambda strip: strip.write(threshold), strips)).tolist()
    to_prune = accumulate(ties, lambda left, tied: max(0, left - tied), initial=ties_to_prune)
    spared = [(strip, first) for strip, tied, first in zip(strips, ties, to_prune, strict=False) if tied > first]
    threads.each(lambda job: job[0].spare(threshold, job[1]), spared)


def _threshold(strips: Sequence[Strip], quota: int, threads: Workers) -> tuple[int, int]:
    """Finds the ``quota``-th smallest key, and how many weights with exactly this key are among the first ``quota``."""
    total = sum(strip.numel for strip in strips)
    bits = min(_HISTOGRAM_BITS, max(8, total.bit_length() - 4))
    low, high = _guess(strips, quota / total, threads)
    while True:
        span = (high - low - 1).bit_length()
        shift = max(0, span - bits)
        bins = 1 << (span - shift)
        # below[i]: how many keys are less than low + i * 2**shift
        below = _histogram(strips, low, shift, bins, threads).cumsum(0)
        i = int(torch.searchsorted(below, quota))
        if i == 0:
            low, high = 1, low
        elif i > bins:
            low, high = low + (bins << shift), strips[0].top
        elif shift:
            low, high = low + ((i - 1) << shift), low + (i << shift)
        else:
            return low + i - 1, quota - int(below[i - 1])


def _guess(strips: Sequence[Strip], share: float, threads: Workers) -> tuple[int, int]:
    """Guesses low and high with low <= key < high for the key that ``share`` of the keys do not exceed."""
    total = sum(strip.numel for strip in strips)
    # Odd, as a stride that divides the length of the rows would see a few columns only.
    stride = max(64, total // _SAMPLE) | 1
    sample = torch.cat(threads.each(lambda strip: strip.sample(stride), strips)).sort().values
    rank = int(share * len(sample))
    margin = 1 + int(1.5 * len(sample) ** 0.5)  # three standard deviations of the rank, or more
    ends = sample[max(0, rank - margin)], sample[min(len(sample) - 1, rank + margin)]
    low, high = torch.stack(ends).tolist()
    low = max(1, low) if rank >= margin else 1
    high = high + 1 if rank + margin < len(sample) else strips[0].top
    return low, max(high, low + 1)


def _histogram(strips: Sequence[Strip], low: int, shift: int, bins: int, threads: Workers) -> Tensor:
    """Counts the keys below ``low``, and those in each of ``bins`` ranges of ``2**shift`` keys from ``low`` on.

    The counts are int64, of shape (1 + bins,), on the strips' device. Histograms of parts of the weights, one per rank
    say, add up to that of the whole.
    """
    counts = torch.zeros(1 + bins, dtype=torch.int64, device=strips[0].device)
    one = torch.ones(1, dtype=torch.int64, device=counts.device)
    lock = Lock()

    def add(strip: Strip) -> Tensor:
        total = torch.zeros((), dtype=torch.int64, device=counts.device)
        for below, found in strip.between(low, min(low + (bins << shift), strip.top)):
            digits = found.bitwise_right_shift_(shift).long()
            with lock:
                counts[1:].index_add_(0, digits, one.expand(len(digits)))
            total += below
        return total

    counts[0] = torch.stack(threads.each(add, strips)).sum()
    return counts


def _check_layout(scores: Mapping[str, Tensor], mask: Mask) -> torch.device:
    """Refuses scores that do not fit ``mask``, by what can be told without reading them; returns the device of all."""
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


def _check_values(scores: Mapping[str, Tensor], mask: Mask, threads: Workers) -> None:
    """Refuses scores that are NaN or infinite where ``mask`` keeps the weight."""
    # Both show in the extremes, so that one quick pass clears a parameter; else it gets a closer look.
    if next(iter(mask.values())).device.type == "cpu":
        clean_ones = threads.each(lambda name: torch.stack(torch.aminmax(scores[name].detach())).isfinite().all(), mask)
    else:
        # A few launches for all parameters; the largest absolute value is NaN where there is a NaN.
        clean_ones = [*torch.stack(torch._foreach_norm([scores[name].detach() for name in mask], math.inf)).isfinite()]
    for name, clean in zip(mask, torch.stack(clean_ones).tolist(), strict=True):
        if not clean and (bad := int(torch.count_nonzero(~scores[name].isfinite() & mask[name]))):
            raise UserError(
                f"The score of {name!r} is NaN or infinite at {bad:,} of its kept weights, so they cannot be ranked. "
                "Has the training diverged?"
            )
