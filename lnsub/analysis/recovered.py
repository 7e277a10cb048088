"""The recovered share: how much of what a language's own ticket adds to the inherited mask another's ticket adds too.

Of a metric m of target t,

    recovered share = (m(foreign) - m(inherited)) / (m(own) - m(inherited)),

all fine-tuned on t with the same seed and pruned alike. It is 1 where a foreign ticket is as good as the target's own,
and 0 where it is no better than the mask that anyone has without training, which a comparison with random masks or the
dense model does not tell apart. The two gains are averaged first and then divided: a mean of ratios would be made by
the cells in which an own ticket happens to gain next to nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lnsub.analysis import jackknife
from lnsub.analysis.jackknife import FEWEST, Statistic

UNCLEAR = "own tickets are not clearly better than the inherited mask"
"""Why there is no share."""

_CELL = ["sparsity", "target", "seed"]


def recovered_cells(frame: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Holds each foreign ticket against the target's own and the inherited mask.

    Args:
        frame: records of a transfer, of one study, metric and split: ``variant`` (``ticket`` and ``inherited`` count,
            see :func:`lnsub.report.collect.variant_of`), ``source``, ``target``, ``sparsity``, ``seed`` and ``value``.
            Mixtures of languages and values that are not finite are left out. What was measured more than once is
            averaged.
        higher_is_better: the metric's direction.

    Returns:
        One row for each sparsity, target, cell's seed and source other than the target, where all three were measured:
        the metric's values ``own``, ``foreign`` and ``inherited``; ``own_gain`` and ``foreign_gain``, what they gain
        over ``inherited`` (of a loss, how far they are below it); and ``share``, NaN where ``own_gain`` is not above 0.
    """
    finite = frame[np.isfinite(frame["value"].astype(float))]
    single = finite[~finite["target"].str.contains("+", regex=False)]
    tickets = single[(single["variant"] == "ticket") & single["source"].notna()]
    tickets = tickets[~tickets["source"].astype(str).str.contains("+", regex=False)]

    def mean(rows: pd.DataFrame, name: str, by: list[str]) -> pd.DataFrame:
        return rows.groupby(by)["value"].mean().rename(name).reset_index()

    abroad = tickets["source"] != tickets["target"]
    cells = mean(tickets[abroad], "foreign", ["sparsity", "source", "target", "seed"])
    cells = cells.merge(mean(tickets[~abroad], "own", _CELL), on=_CELL)
    cells = cells.merge(mean(single[single["variant"] == "inherited"], "inherited", _CELL), on=_CELL)
    sign = 1 if higher_is_better else -1
    for name in ("own", "foreign"):
        cells[f"{name}_gain"] = sign * (cells[name] - cells["inherited"])
    cells["share"] = cells["foreign_gain"] / cells["own_gain"].where(cells["own_gain"] > 0)
    return cells


def recovered_shares(cells: pd.DataFrame) -> pd.DataFrame:
    """The recovered share of each sparsity, over all sources, targets and seeds.

    Each target and seed counts once, with the mean over its sources. The interval is Fieller's (1954,
    https://doi.org/10.1111/j.2517-6161.1954.tb00159.x): it holds each share r at which foreign_gain - r own_gain is not
    clearly apart from 0, by the jackknife over languages, each left out as source and target at once, and over seeds.
    Seeds of which there are too few for that are averaged. That leaves their spread in, as far as it differs between
    languages; what all languages' cells of a seed have in common, the difference to the inherited mask takes out.

    Args:
        cells: of :func:`recovered_cells`.

    Returns:
        One row for each sparsity: ``own``, ``foreign`` and ``inherited`` (means of the metric), ``own_gain`` and
        ``foreign_gain`` with the 95 % interval ``own_gain_low`` to ``own_gain_high``, ``share`` with ``share_low`` and
        ``share_high``, ``interval`` (what was left out one at a time, or why there is no interval or no share),
        ``languages``, ``seeds`` and ``cells``. There is no share where own tickets are not clearly better than the
        inherited mask: where the interval of ``own_gain`` holds 0 or, if there is none, any cell's is not above 0.
    """
    return pd.DataFrame([_share_row(*group) for group in cells.groupby("sparsity")], columns=_SHARE_COLUMNS)


def recovered_changes(cells: pd.DataFrame) -> pd.DataFrame:
    """How the recovered share changes from each sparsity to each higher one, over the cells that both have.

    Args:
        cells: of :func:`recovered_cells`.

    Returns:
        One row for each two sparsities: ``from_sparsity``, ``to_sparsity``, ``from_share``, ``to_share``, ``change``
        with the 95 % interval ``change_low`` to ``change_high`` (the jackknife, paired: a language is left out at both
        sparsities), ``interval``, ``languages`` and ``seeds``. None of these where one of the shares is not known.
    """
    rows = []
    for low, high in combinations(sorted(set(cells["sparsity"])), 2):
        keys = ["source", "target", "seed"]
        both = [cells[cells["sparsity"] == sparsity].set_index(keys) for sparsity in (low, high)]
        common = both[0].index.intersection(both[1].index)
        if len(common):
            first, second = (Gains.of(part.loc[common].reset_index()) for part in both)
            rows.append({"from_sparsity": low, "to_sparsity": high} | _change_row(first, second))
    return pd.DataFrame(rows, columns=_CHANGE_COLUMNS)


@dataclass(frozen=True)
class Gains:
    """Gains over the inherited mask at one sparsity.

    Attributes:
        languages: L sources and targets.
        seeds: K seeds of cells.
        own: (L, K) of the targets' own tickets, 0 where not measured.
        foreign: (L, L, K) of each source's on each target, likewise.
        there: (L, L, K) bool: where all was measured.
    """

    languages: tuple[str, ...]
    seeds: tuple[int, ...]
    own: np.ndarray
    foreign: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, cells: pd.DataFrame) -> "Gains":
        """Those of cells of one sparsity; see :func:`recovered_cells`."""
        languages = sorted({*cells["source"], *cells["target"]})
        seeds = sorted({int(seed) for seed in cells["seed"]})
        at = [[languages.index(name) for name in cells[column]] for column in ("source", "target")]
        at.append([seeds.index(int(seed)) for seed in cells["seed"]])
        foreign = np.zeros((len(languages), len(languages), len(seeds)))
        own, there = np.zeros(foreign.shape[1:]), np.zeros(foreign.shape, bool)
        foreign[tuple(at)], own[tuple(at[1:])], there[tuple(at)] = cells["foreign_gain"], cells["own_gain"], True
        return cls(tuple(languages), tuple(seeds), own, foreign, there)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many languages and seeds there are."""
        return len(self.languages), len(self.seeds)

    @property
    def all(self) -> list[np.ndarray]:
        """Weights by which each language and seed counts once."""
        return [np.ones(size) for size in self.sizes]

    def means(self, weights: Sequence[np.ndarray]) -> tuple[float, float] | None:
        """The mean gain of own and of foreign tickets.

        Args:
            weights: (L,) and (K,) how often each language, as a source and as a target, and each seed counts.
        """
        languages, seeds = weights
        often = languages[:, None, None] * self.there
        sources = often.sum(0)
        cells = np.outer(languages, seeds) * (sources > 0)
        if not cells.sum():
            return None
        foreign = (often * self.foreign).sum(0) / np.where(sources > 0, sources, 1)
        return float((cells * self.own).sum() / cells.sum()), float((cells * foreign).sum() / cells.sum())

    def less(self, share: float) -> Statistic:
        """The statistic foreign gain - share * own gain."""

        def statistic(weights: list[np.ndarray]) -> float | None:
            found = self.means(weights)
            return None if found is None else found[1] - share * found[0]

        return statistic

    def own_gain(self, weights: list[np.ndarray]) -> float | None:
        """The statistic own gain."""
        found = self.means(weights)
        return None if found is None else found[0]

    def share(self, weights: list[np.ndarray]) -> float | None:
        """The statistic foreign gain / own gain."""
        found = self.means(weights)
        return found[1] / found[0] if found is not None and found[0] else None

    def interval(self, statistic: Statistic) -> tuple[float | None, float | None]:
        """The jackknife's interval over languages and, where there are enough, seeds."""
        languages, seeds = self.sizes
        if seeds >= FEWEST:
            return jackknife.interval(statistic, self.sizes)
        return jackknife.interval(lambda weights: statistic([*weights, np.ones(seeds)]), [languages])

    def is_clear(self) -> bool:
        """Whether own tickets are clearly better than the inherited mask."""
        low, _ = self.interval(self.own_gain)
        if low is None:
            return bool((self.own[self.there.any(0)] > 0).all())
        return low > 0

    def share_interval(self) -> tuple[float | None, float | None]:
        """Fieller's interval of the share; none where there is none of the gains."""
        share = self.share(self.all)
        if share is None or self.interval(self.own_gain)[0] is None:
            return None, None
        return _zero(self._bound(0), share, -1), _zero(self._bound(1), share, 1)

    def _bound(self, end: int) -> Callable[[float], float | None]:
        return lambda share: self.interval(self.less(share))[end]

    def how(self, found: bool) -> str:
        """What an interval is over, or why there is none."""
        languages, seeds = self.sizes
        if languages < FEWEST:
            return f"it takes {FEWEST} languages, here {languages}"
        if not found:
            return "without one of the languages or seeds, no cell is left"
        over = f"jackknife over {languages} languages"
        if seeds >= FEWEST:
            return f"{over} and {seeds} seeds"
        return f"{over}, {seeds} seeds averaged" if seeds > 1 else f"{over}, of one seed"


def _zero(bound: Callable[[float], float | None], start: float, side: int) -> float | None:
    """The share below (side -1) or above ``start`` at which a bound of the difference is 0, as it falls with the share.

    None where there is none, which takes a denominator that is not clear.
    """
    from scipy.optimize import brentq

    def at(share: float) -> float:
        found = bound(share)
        return 0.0 if found is None else found

    if side * at(start) <= 0:
        return start
    for step in 2.0 ** np.arange(-4, 21):
        if side * at(start + side * step) <= 0:
            return float(brentq(at, start, start + side * step, xtol=1e-9))
    return None


_SHARE_COLUMNS = [
    "sparsity",
    *("own", "foreign", "inherited", "own_gain", "own_gain_low", "own_gain_high", "foreign_gain"),
    *("share", "share_low", "share_high", "interval", "languages", "seeds", "cells"),
]
_CHANGE_COLUMNS = [
    *("from_sparsity", "to_sparsity", "from_share", "to_share", "change", "change_low", "change_high"),
    *("interval", "languages", "seeds"),
]


def _share_row(sparsity: Any, cells: pd.DataFrame) -> dict[str, Any]:
    gains = Gains.of(cells)
    means = gains.means(gains.all)
    assert means is not None
    once = cells.groupby(["target", "seed"])[["own", "foreign", "inherited"]].mean().mean()
    low, high = gains.interval(gains.own_gain)
    row = {"sparsity": sparsity, **once, "own_gain": means[0], "own_gain_low": low, "own_gain_high": high}
    row |= {"foreign_gain": means[1], "share": None, "share_low": None, "share_high": None, "interval": UNCLEAR}
    if gains.is_clear():
        share_low, share_high = gains.share_interval()
        row |= {"share": gains.share(gains.all), "share_low": share_low, "share_high": share_high}
        row |= {"interval": gains.how(share_low is not None)}
    return row | dict(zip(("languages", "seeds"), gains.sizes, strict=True)) | {"cells": len(cells)}


def _change_row(first: Gains, second: Gains) -> dict[str, Any]:
    def change(weights: list[np.ndarray]) -> float | None:
        before, after = first.share(weights), second.share(weights)
        return None if before is None or after is None else after - before

    row: dict[str, Any] = {"interval": UNCLEAR} | dict(zip(("languages", "seeds"), first.sizes, strict=True))
    if not (first.is_clear() and second.is_clear()):
        return row
    low, high = first.interval(change)
    row |= {"from_share": first.share(first.all), "to_share": second.share(second.all)}
    row |= {"change": change(first.all), "change_low": low, "change_high": high}
    return row | {"interval": first.how(low is not None)}
