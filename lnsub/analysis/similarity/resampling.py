"""What a similarity is compared with, and how far another sample of sentences could move it.

*Null*: the sentences of one language are shuffled, so that each is held against a sentence that does not translate it.
What is left is what a measure gives for so many sentences of two languages whatever they say; canonical correlations
are far above 0 then.

*Interval*: subsets of the sentences without replacement. A bootstrap, which draws sentences twice, would not do: a
sentence and its copy count as two that agree perfectly, which raises canonical correlations and breaks the unbiasedness
of CKA. Of n sentences, d are left out at random, again and again, and the standard error is that of the delete-d
jackknife (Shao & Wu, 1989, https://doi.org/10.1214/aos/1176347263): the standard deviation of the values, times
sqrt((n - d) / d). The interval is 1.96 of these to either side of the value of all sentences. It is about the value
expected of n sentences, whose own bias the null shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnsub.analysis.similarity.axes import AxesPair, Moments
from lnsub.analysis.similarity.measures import MEASURES
from lnsub.common.threads import workers

LEFT_OUT = 0.2
"""The share of the sentences that each resample leaves out: large enough for the standard error to hold for measures
that are not smooth, and small enough that the others are in the same regime of sentences to dimensions as all."""

FEWEST = 10
"""The fewest sentences that anything is measured on."""


@dataclass(frozen=True)
class Estimate:
    """A measure's value, its null and its interval; None where not measured.

    There is no interval of canonical correlations over as many axes as a resample has sentences.

    Attributes:
        value: of all sentences.
        low: the lower end of the 95 % interval.
        high: the upper end.
        null: the mean value of shuffled sentences.
        null_low: the lower end of the middle 95 % of these values.
        null_high: the upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None
    null: float | None = None
    null_low: float | None = None
    null_high: float | None = None


def estimates(
    pair: AxesPair, measures: tuple[str, ...], *, resamples: int, shuffles: int, seed: int
) -> dict[str, Estimate]:
    """Measures, with null and interval.

    Args:
        pair: the states of at least :data:`FEWEST` sentences, neither of rank 0.
        measures: names of :data:`lnsub.analysis.similarity.measures.MEASURES`.
        resamples: how many subsets of the sentences; 0 for no interval, else at least 2.
        shuffles: how many orders of the sentences; 0 for no null.
        seed: of both. The subsets and orders of one seed and number of sentences are the same for all states, so that
            layers and sub-networks can be compared.

    Returns:
        The estimates by measure.
    """
    n, device = len(pair.x.basis), pair.x.basis.device
    out = max(1, round(LEFT_OUT * n))

    def drawn(kind: int, size: int, times: int) -> list[Tensor]:
        rng = np.random.default_rng([seed, kind])
        return [torch.from_numpy(rng.permutation(n)[:size]).to(device) for _ in range(times)]

    def values(sums: Moments, names: Sequence[str]) -> list[float]:
        return [MEASURES[name].of(pair.x, pair.y, sums) for name in names]

    # As many axes as sentences that are not left out would leave nothing to correlate.
    fits = [name for name in measures if _axes(pair, name) < n - out - 1]
    with workers(device) as pool:
        whole = values(pair.whole, measures)
        subsets = pool.each(lambda rows: values(pair.without(rows), fits), drawn(0, out, resamples if fits else 0))
        nulls = pool.each(lambda order: values(pair.shuffled(order), measures), drawn(1, n, shuffles))
    spread = dict(zip(fits, np.std(subsets, axis=0, ddof=1), strict=True)) if subsets else {}
    found = {}
    for place, (name, value) in enumerate(zip(measures, whole, strict=True)):
        low = high = null = null_low = null_high = None
        if name in spread:
            margin = 1.96 * ((n - out) / out) ** 0.5 * float(spread[name])
            low, high = value - margin, min(1.0, value + margin)
            if name != "cka":  # which alone may be below 0
                low = max(0.0, low)
        if nulls:
            of_null = [row[place] for row in nulls]
            null = float(np.mean(of_null))
            null_low, null_high = map(float, np.percentile(of_null, [2.5, 97.5]))
        found[name] = Estimate(value, low, high, null, null_low, null_high)
    return found


def _axes(pair: AxesPair, name: str) -> int:
    """The larger number of axes that a measure's canonical correlations are taken over; 0 where there are none."""
    axes = MEASURES[name].axes
    return max(axes(pair.x), axes(pair.y)) if axes else 0
