"""The jackknife over crossed factors, for a statistic of values that each belong to a member of every factor.

Each factor's members, such as languages and seeds, are left out one at a time. The variances that this gives for the
factors are added up, and a t interval with Satterthwaite's degrees of freedom is put around the statistic (Efron &
Stein, 1981, https://doi.org/10.1214/aos/1176345462; Satterthwaite, 1946, https://doi.org/10.2307/3002019). With a
handful of members it covers the truth where the percentile interval of a bootstrap does not: see docs/statistics.md.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

FEWEST = 3
"""Members that each factor must have: the spread of two says next to nothing."""

Statistic = Callable[[list[np.ndarray]], float | None]
"""A statistic of weights (size,) of each factor's members, 0 or 1; None where it is not defined."""


def interval(statistic: Statistic, sizes: Sequence[int]) -> tuple[float | None, float | None]:
    """The 95 % interval of a statistic.

    Args:
        statistic: what is estimated.
        sizes: how many members each factor has.

    Returns:
        Its bounds; None where a factor has fewer than :data:`FEWEST` members, or where the statistic is not defined
        without one of them.
    """
    all_of = [np.ones(size) for size in sizes]
    value = statistic(all_of)
    if value is None or min(sizes) < FEWEST:
        return None, None
    variances = []
    for factor, size in enumerate(sizes):
        without = []
        for member in range(size):
            weights = [ones.copy() for ones in all_of]
            weights[factor][member] = 0
            if (left := statistic(weights)) is None:
                return None, None
            without.append(left)
        variances.append((size - 1) * float(np.var(without)))
    total = sum(variances)
    if not total:
        return value, value
    # Importing scipy takes longer than comparing a few tickets does.
    from scipy.special import stdtrit

    freedom = total**2 / sum(v**2 / (size - 1) for v, size in zip(variances, sizes, strict=True))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(total)
    return value - half, value + half
