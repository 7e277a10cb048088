"""The pigeonhole bootstrap, for values that each belong to a member of every factor, such as a language and a seed.

The members of each factor are drawn with replacement, and a value counts as often as all of its members were drawn
(Owen, 2007, https://arxiv.org/abs/0712.1111).
"""

from collections.abc import Iterator, Sequence

import numpy as np


def draws(rng: np.random.Generator, sizes: Sequence[int], at_least: int) -> Iterator[list[np.ndarray]]:
    """Draws the members of each factor again and again, without end.

    Args:
        rng: where randomness comes from.
        sizes: how many members each factor has, at least ``at_least``.
        at_least: how many different members of each factor a draw must have; others are drawn anew.

    Yields:
        For each factor, how often each of its members was drawn: float64 (size,).
    """
    while True:
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n).astype(float) for n in sizes]
        if min(map(np.count_nonzero, drawn)) >= at_least:
            yield drawn


def interval(values: Sequence[float] | np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of a statistic's bootstrap values, NaN left out; None without any."""
    found = np.asarray(values, float)
    found = found[~np.isnan(found)]
    if not found.size:
        return None, None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
