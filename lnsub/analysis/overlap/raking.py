"""The null of departures that keeps the scales of rows and columns: flips raked to their margins.

Some rows and columns of a matrix move more than others in every run, whatever it is trained on: the neurons that the
gradient reaches, and the dimensions in which inputs are large. The null that knows |theta_0| alone is blind to that,
and too low. Here each ticket's flips have probabilities that add up to the flips counted in every bin of |theta_0|,
every row and every column: iterative proportional fitting (Deming & Stephan, 1940,
https://doi.org/10.1214/aoms/1177731829). A factor of each would be too simple, as half of the weights at the threshold
flip however far they move; so a second fit takes classes of weights by their scale apart within each bin.

What two runs learn alike about a whole row or column is taken for the model's as well, so that for runs which do share
more than the model this null is rather too high than too low.
"""

from collections.abc import Sequence

import numpy as np

ROUNDS = 30
"""Most rounds of fitting; it ends when no margin is off by more than :data:`CLOSE`."""

SCALES = 8
"""Classes of weights by the scale of their row and column."""

CLOSE = 1e-3
"""Share of a margin by which the fit may miss it."""


def raked(departed: np.ndarray, bins: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The probabilities to depart that fit one ticket's departure.

    Args:
        departed: (n,) bool, which of the n weights that can depart do.
        bins: (n,) int, the bin of |theta_0| of each, from 0.
        rows: (n,) int, its row, from 0.
        columns: (n,) int, its column, from 0.

    Returns:
        (n,) float64 in [0, 1].
    """
    if not departed.any():
        return np.zeros(departed.size)
    fitted = np.full(departed.size, departed.mean())
    _rake(fitted, departed, (bins, rows, columns))
    # What the fit gives a weight beyond its bin is the scale of its row and column.
    in_bin = np.bincount(bins, weights=departed) / np.maximum(np.bincount(bins), 1)
    scale = np.divide(fitted, in_bin[bins], out=np.zeros_like(fitted), where=in_bin[bins] > 0)
    borders = np.quantile(scale, np.arange(1, SCALES) / SCALES)
    _rake(fitted, departed, (bins * SCALES + np.searchsorted(borders, scale), rows, columns))
    return fitted


def _rake(fitted: np.ndarray, departed: np.ndarray, margins: Sequence[np.ndarray]) -> None:
    """Fits probabilities to the margins of a departure, in place."""
    targets = [np.bincount(of, weights=departed) for of in margins]
    for _ in range(ROUNDS):
        worst = 0.0
        for of, target in zip(margins, targets, strict=True):
            found = np.bincount(of, weights=fitted, minlength=target.size)
            factor = np.divide(target, found, out=np.zeros_like(target), where=found > 0)
            worst = max(worst, float(np.abs(factor - 1)[target > 0].max(initial=0)))
            fitted *= factor[of]
            np.minimum(fitted, 1, out=fitted)
        if worst < CLOSE:
            break


def expected_raked(departed: Sequence[np.ndarray], bins: np.ndarray, at: np.ndarray, columns: int) -> np.ndarray:
    """What each pair of T departures shares on average, independent given bins, rows and columns.

    Args:
        departed: (n,) bool for each ticket, which of the n weights that can depart do.
        bins: (n,) int, the bin of |theta_0| of each.
        at: (n,) int, their places in the matrix, row by row.
        columns: the length of a row.

    Returns:
        (P,) float64, in the order of ``combinations``.
    """
    fits = np.array([raked(one, bins, *np.divmod(at, columns)) for one in departed])
    return np.asarray((fits @ fits.T)[np.triu_indices(len(fits), 1)])
