"""How strongly two measures of pairs of languages go together."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from lnsub.analysis.bootstrap import draws, interval

RESAMPLES = 2000
"""Bootstrap samples of a correlation's interval."""

_Z = 1.959964  # half the width of a 95 % normal interval, in standard deviations


def correlation(
    x: Sequence[float],
    y: Sequence[float],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How strongly two measures of pairs of languages go together, with two 95 % intervals.

    Fisher's interval takes the pairs as independent, tanh(atanh(r) +- 1.96 / sqrt(n - 3)), for Spearman with the
    variance (1 + r^2 / 2) / (n - 3) of Bonett & Wright (2000, https://doi.org/10.1007/BF02294183). But pairs share
    languages, so it tends to be too narrow; the bootstrap draws the languages with replacement, and a pair counts as
    often as both of its languages were drawn together (:mod:`lnsub.analysis.bootstrap`). Draws of fewer than three
    languages are drawn anew.

    Args:
        x: one value a pair, such as the overlap of both languages' tickets.
        y: another, such as the change of the metric when one's ticket is fine-tuned on the other.
        pairs: the two languages of each pair; they differ.
        resamples: bootstrap samples; 0 leaves that interval out.
        seed: seed of the bootstrap.

    Returns:
        A row for ``pearson`` and one for ``spearman``: ``coefficient``, ``value``, ``fisher_low``, ``fisher_high``,
        ``bootstrap_low``, ``bootstrap_high``, ``pairs`` and ``languages``. The value is None with fewer than three
        pairs or where a measure does not vary, Fisher's interval with fewer than four pairs, the bootstrap's with
        fewer than four languages.

    Raises:
        ValueError: the three have different lengths, a pair is of one language, or a value is not finite.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    if not len(a) == len(b) == len(pairs):
        raise ValueError(f"{len(a)} and {len(b)} values for {len(pairs)} pairs")
    if not np.isfinite([a, b]).all() or any(s == t for s, t in pairs):
        raise ValueError("a correlation is of finite values, over pairs of two languages")
    languages = sorted({language for pair in pairs for language in pair})
    weights = np.empty((0, len(a)))
    if len(languages) > 3:
        first, second = np.array([[languages.index(language) for language in pair] for pair in pairs]).T
        drawn = islice(draws(np.random.default_rng(seed), [len(languages)], at_least=3), resamples)
        weights = np.array([often[first] * often[second] for (often,) in drawn]).reshape(-1, len(a))
    rows = []
    for coefficient in ("pearson", "spearman"):
        ranked = coefficient == "spearman"
        value = float(_weighted(a, b, np.ones((1, len(a))), ranked)[0]) if len(a) > 2 else np.nan
        rows.append(
            {"coefficient": coefficient, "value": value if np.isfinite(value) else None}
            | dict(zip(("fisher_low", "fisher_high"), _fisher(value, len(a), ranked), strict=True))
            | dict(zip(("bootstrap_low", "bootstrap_high"), interval(_weighted(a, b, weights, ranked)), strict=True))
            | {"pairs": len(a), "languages": len(languages)}
        )
    return rows


def _fisher(r: float, n: int, ranked: bool) -> tuple[float | None, float | None]:
    if n < 4 or not np.isfinite(r):
        return None, None
    half = _Z * np.sqrt((1 + r**2 / 2 if ranked else 1) / (n - 3))
    # A correlation of 1 has no finite transform; just below it the interval is as good as a point.
    middle = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def _weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray, ranked: bool) -> np.ndarray:
    """The correlation of (n,) x and y under each row of (R, n) weights, whole numbers; NaN where one is constant."""
    r = np.full(len(weights), np.nan)
    varies = _varies(x, weights) & _varies(y, weights)
    weights = weights[varies]
    if not weights.size:
        return r
    a, b = (_ranks(x, weights), _ranks(y, weights)) if ranked else (x, y)
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / total
    b = b - (weights * b).sum(axis=1, keepdims=True) / total
    spread = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
    r[varies] = np.clip((weights * a * b).sum(axis=1) / np.sqrt(spread), -1, 1)
    return r


def _varies(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether (n,) values differ among those with a weight, for each row of (R, n) weights."""
    there = weights > 0
    lowest = np.where(there, values, np.inf).min(axis=1, initial=np.inf)
    return np.where(there, values, -np.inf).max(axis=1, initial=-np.inf) > lowest


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks when each of (n,) values stands as often as its weight says: (R, n)."""
    _, group = np.unique(values, return_inverse=True)
    often = np.stack([weights[:, group == g].sum(axis=1) for g in range(group.max() + 1)], axis=1)
    return (np.cumsum(often, axis=1) - often + (often + 1) / 2)[:, group]
