"""Which cells of a language by language table stand out, where there are many cells to look at.

A cell is held against what effects of its two languages explain. What is left of it counts where the replicates of the
table, such as seeds, agree on it. Were there nothing about pairs, the languages of each replicate could be renamed by
themselves: under all such renamings the sum of a cell over replicates is that of one cell of each, drawn at random. So
p is the share of these draws that lie as far from 0; exactly, or over many draws where there are millions.

Cells are then marked by the false discovery rate (Benjamini & Hochberg, 1995,
https://doi.org/10.1111/j.2517-6161.1995.tb02031.x), a family a table; docs/statistics.md has its simulated size.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

LEVEL = 0.05
"""The false discovery rate up to which cells are marked."""
FEWEST = 5
"""Languages that a test takes: of fewer, what is left of a symmetric table comes in equal pairs of cells."""
DRAWS = 2_000_000
"""Draws that are counted: all there are, or so many of them."""

Place = tuple[str, str]


@dataclass(frozen=True)
class Tested:
    """The cells of a table, tested.

    Attributes:
        p: two-sided, of each cell that was tested; a symmetric table has each pair both ways. Empty where none was.
        q: the same, adjusted by Benjamini and Hochberg.
        reason: why no cell can be marked, as a clause: ``of 2 seeds and 4 languages ...``; empty where cells can.
    """

    p: Mapping[Place, float] = field(default_factory=dict)
    q: Mapping[Place, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def marked(self) -> frozenset[Place]:
        """The cells whose q is :data:`LEVEL` or less."""
        return frozenset(place for place, q in self.q.items() if q <= LEVEL)


def cells_beyond_effects(
    values: Iterable[tuple[str, str, int, float]], *, symmetric: bool = False, seed: int = 0
) -> Tested:
    """Tests each cell of a table of languages for what effects of its two languages do not explain.

    Args:
        values: row, column, replicate and value. Cells of a language with itself, and rows that are no columns, such as
            mixtures, are not tested. What a replicate has several times is averaged.
        symmetric: a cell is that of two languages, whichever is the row, and both have the same effects.
        seed: seed of the draws, where they are too many to count all of them.

    Returns:
        p and q. Replicates that lack a cell are left out.
    """
    tables: dict[int, dict[Place, list[float]]] = {}
    for row, column, replicate, value in values:
        place = (min(row, column), max(row, column)) if symmetric else (row, column)
        if row != column and np.isfinite(value):
            tables.setdefault(replicate, {}).setdefault(place, []).append(value)
    seen = {place for table in tables.values() for place in table}
    rows, columns = {row for row, _ in seen}, {column for _, column in seen}
    languages = sorted(rows | columns if symmetric else rows & columns)
    places = [(a, b) for a in languages for b in languages if a != b and (a < b or not symmetric)]
    whole = [table for _, table in sorted(tables.items()) if all(place in table for place in places)]
    if reason := _reason(len(languages), len(tables), len(whole), len(places)):
        return Tested(reason=reason)
    left = _without_effects(np.array([[np.mean(t[place]) for place in places] for t in whole]), places, symmetric)
    from scipy.stats import false_discovery_control

    p = _share_beyond(left, np.random.default_rng(seed))
    q = false_discovery_control(p, method="bh")
    found = [(place, float(a), float(b)) for place, a, b in zip(places, p, q, strict=True)]
    if symmetric:
        found += [((b, a), *numbers) for (a, b), *numbers in found]  # type: ignore[misc]
    return Tested({place: a for place, a, _ in found}, {place: b for place, _, b in found})


def smallest_q(cells: int, replicates: int) -> float:
    """The smallest q that a table can have: one cell is the most extreme in every replicate.

    Its p is 1 / cells^replicates, and Benjamini and Hochberg multiply it by the cells.
    """
    return 1 / cells ** (replicates - 1)


def _reason(languages: int, replicates: int, whole: int, cells: int) -> str:
    if languages < FEWEST:
        return f"it takes {FEWEST} languages, and there are {languages}"
    if whole < replicates and whole < 2:
        which = "one" if whole else "none"
        return f"{which} of {replicates} seeds has every cell of the {languages} languages, and it takes two"
    if smallest_q(cells, whole) > LEVEL:
        seeds = "one seed" if whole == 1 else f"{whole} seeds"
        return f"with {seeds} of {languages} languages no q can be less than {smallest_q(cells, whole):.2g}"
    return ""


def _without_effects(values: np.ndarray, places: list[Place], symmetric: bool) -> np.ndarray:
    """What is left of each replicate, (replicates, cells), with effects of rows and columns taken out."""
    languages = {name: at for at, name in enumerate(sorted({name for place in places for name in place}))}
    effects = np.zeros((len(places), len(languages) * (1 if symmetric else 2)))
    for at, (row, column) in enumerate(places):
        effects[at, languages[row]] = 1
        effects[at, languages[column] + (0 if symmetric else len(languages))] = 1
    return np.asarray(values - values @ (effects @ np.linalg.pinv(effects)))


def _share_beyond(left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The share of draws of one cell a replicate whose sum is as far from 0 as each cell's own: (cells,)."""
    replicates, cells = left.shape
    own = np.abs(left.sum(axis=0))
    counted = cells**replicates <= DRAWS
    drawn = reduce(np.add.outer, left).ravel() if counted else sum(rng.choice(row, DRAWS) for row in left)
    sums = np.sort(np.abs(drawn))
    slack = 1e-9 * float(np.abs(left).max(initial=0.0))
    beyond = len(sums) - np.searchsorted(sums, own - slack, side="left")
    return np.asarray(beyond / len(sums) if counted else (beyond + 1) / (len(sums) + 1))
