"""How strongly two measures of pairs of languages go together, and whether chance would do as much.

Pairs share languages: one language whose tickets overlap with all others', and whose transfers all succeed, makes a
correlation over pairs that says nothing of pairs. So effects of source and target are taken out first, and what is left
is compared with what permuted languages give: the double semi-partial quadratic assignment procedure (Dekker,
Krackhardt & Snijders, 2007, https://doi.org/10.1007/s11336-007-9016-1) with sources and targets as the covariates. An
interval that takes pairs as independent, such as Fisher's, rejects true nulls in up to nine of ten cases.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lnsub.analysis.permutations import orders

FEWEST = 5
"""Languages that a test takes: with L of them the smallest possible p is 1 / L!."""
MOST = 7
"""Languages up to which all permutations are tried."""
PERMUTATIONS = 5040
"""Permutations of more languages than that."""


def correlation(
    x: Sequence[float], y: Sequence[float], pairs: Sequence[tuple[str, str]], *, seed: int = 0
) -> list[dict[str, Any]]:
    """How strongly two measures of pairs of languages go together, with a permutation test.

    Args:
        x: one value a pair, equal for a pair and its reverse, such as the overlap of both languages' tickets.
        y: another, such as the change of the metric when one's ticket is fine-tuned on the other.
        pairs: source and target of each value; they differ.
        seed: seed of the permutations, where they are drawn.

    Returns:
        A row for ``pearson`` and one for ``spearman`` (of ranks): ``coefficient``, ``value`` over the pairs as they
        are, ``centred`` (with effects of source and target taken out), its two-sided ``p``, ``pairs`` and
        ``languages``. The values are None with fewer than three pairs or where a measure does not vary; ``p`` also with
        fewer than :data:`FEWEST` languages, or where a permutation would need the ``x`` of a pair that is not there.

    Raises:
        ValueError: the three have different lengths, a pair is of one language, or a value is not finite.
    """
    a, b = np.asarray(x, float), np.asarray(y, float)
    if not len(a) == len(b) == len(pairs):
        raise ValueError(f"{len(a)} and {len(b)} values for {len(pairs)} pairs")
    if not np.isfinite([a, b]).all() or any(s == t for s, t in pairs):
        raise ValueError("a correlation is of finite values, over pairs of two languages")
    languages = sorted({language for pair in pairs for language in pair})
    at = np.array([[languages.index(language) for language in pair] for pair in pairs], int).reshape(-1, 2)
    rows = []
    for coefficient in ("pearson", "spearman"):
        u, v = (_ranks(a), _ranks(b)) if coefficient == "spearman" else (a, b)
        centred, p = _tested(u, v, at, len(languages), seed)
        rows.append(
            {"coefficient": coefficient, "value": _r(u - u.mean(), v - v.mean()) if len(u) > 2 else None}
            | {"centred": centred, "p": p, "pairs": len(a), "languages": len(languages)}
        )
    return rows


def _tested(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, languages: int, seed: int
) -> tuple[float | None, float | None]:
    """The correlation without effects of source and target, and its two-sided p."""
    if len(x) < 3:
        return None, None
    effects = np.zeros((len(x), 2 * languages))
    for side in range(2):
        effects[np.arange(len(x)), side * languages + at[:, side]] = 1
    residual = np.eye(len(x)) - effects @ np.linalg.pinv(effects)
    target = residual @ y
    found = _r(residual @ x, target)
    if found is None or languages < FEWEST:
        return found, None
    table = np.full((languages, languages), np.nan)
    table[at[:, 1], at[:, 0]] = x
    table[at[:, 0], at[:, 1]] = x
    if np.isnan(table[~np.eye(languages, dtype=bool)]).any():
        return found, None
    moved_to = orders(languages, seed, all_up_to=MOST, drawn=PERMUTATIONS)
    moved = table[moved_to[:, at[:, 0]], moved_to[:, at[:, 1]]] @ residual  # (permutations, pairs)
    spread = np.sqrt((moved**2).sum(1) * (target**2).sum())
    values = np.divide(moved @ target, spread, out=np.zeros(len(moved)), where=spread > _TINY)
    return found, float((np.abs(values) >= abs(found) - _TINY).mean())


_TINY = 1e-12


def _r(x: np.ndarray, y: np.ndarray) -> float | None:
    """The correlation of two vectors of mean 0; None where one is constant."""
    scale = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    small = _TINY * max(len(x), 1)
    if min(float(x @ x), float(y @ y)) < small**2 or not scale:
        return None
    return float(np.clip(x @ y / scale, -1, 1))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks from 1."""
    _, group, often = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(often) - (often - 1) / 2)[group]
