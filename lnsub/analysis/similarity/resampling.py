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

    def values(sums: Moments) -> list[float]:
        return [MEASURES[name].of(pair.x, pair.y, sums) for name in measures]

    def drawn(kind: int, size: int, times: int) -> list[Tensor]:
        rng = np.random.default_rng([seed, kind])
        return [torch.from_numpy(rng.permutation(n)[:size]).to(device) for _ in range(times)]

    out = max(1, round(LEFT_OUT * n))
    with workers(device) as pool:
        whole = values(pair.whole)
        subsets = np.array(pool.each(lambda rows: values(pair.without(rows)), drawn(0, out, resamples)))
        nulls = np.array(pool.each(lambda order: values(pair.shuffled(order)), drawn(1, n, shuffles)))
    found = {}
    for place, (name, value) in enumerate(zip(measures, whole, strict=True)):
        low = high = null = null_low = null_high = None
        if resamples:
            margin = 1.96 * ((n - out) / out) ** 0.5 * float(subsets[:, place].std(ddof=1))
            low, high = value - margin, min(1.0, value + margin)
            if name != "cka":  # which alone may be below 0
                low = max(0.0, low)
        if shuffles:
            null = float(nulls[:, place].mean())
            null_low, null_high = map(float, np.percentile(nulls[:, place], [2.5, 97.5]))
        found[name] = Estimate(value, low, high, null, null_low, null_high)
    return found
