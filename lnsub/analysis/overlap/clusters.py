"""Clusters of languages by the overlap of their tickets, as in appendix B of Foroutan et al. (2022).

Languages are merged by average linkage on the distance 1 - overlap, so that two clusters are as far apart as their
pairs of languages are on average. Leaves are in the order that keeps neighbours alike (Bar-Joseph et al., 2001,
https://doi.org/10.1093/bioinformatics/17.suppl_1.S22), which is that of the heat maps.

The tree is cut where two successive merges lie furthest apart, which gives two clusters at least. A cut is always
found, even in a matrix without structure; whether it means anything, its stability tells: how far the clusterings of
single seeds, cut into as many clusters, agree (adjusted Rand index: 1 for the same clusters, 0 on average by chance).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lnsub.analysis.overlap.jaccard import COMPARABLE, comparable, labels, mean
from lnsub.common.errors import UserError
from lnsub.tickets.ticket import Ticket

FEWEST = 3
"""The fewest languages that have clusters."""

Rows = list[dict[str, Any]]
Overlaps = Mapping[frozenset[str], float]


@dataclass(frozen=True)
class Clusters:
    """Clusters of languages.

    Attributes:
        order: the languages as leaves of the tree, neighbours alike.
        cluster: each language's cluster, numbered from 1 in the order of the leaves.
        gap: between the merge that the cut leaves out and the one below it, in overlap.
        cophenetic: correlation of the pairs' distances with the heights at which the tree joins them, 1 for a tree that
            shows them all; None where they do not vary.
        seeds: seeds of which every pair of languages has an overlap of its own.
        stability: mean adjusted Rand index over pairs of seeds; None with fewer than two.
        together: by pair of languages, the share of seeds in which both are in one cluster; empty without seeds.
    """

    order: tuple[str, ...]
    cluster: dict[str, int]
    gap: float
    cophenetic: float | None
    seeds: int
    stability: float | None
    together: dict[frozenset[str], float]

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(set(self.cluster.values()))

    @property
    def groups(self) -> list[list[str]]:
        """The languages of each cluster, in the order of the leaves."""
        return [[name for name in self.order if self.cluster[name] == k] for k in range(1, self.count + 1)]

    def held(self, language: str) -> float | None:
        """The share of seeds in which a language is with those of its cluster, mean over these; None for none."""
        mates = [name for name in self.order if self.cluster[name] == self.cluster[language] and name != language]
        return mean(self.together.get(frozenset((language, mate))) for mate in mates)


def find_clusters(pairs: Sequence[Mapping[str, Any]], count: int | None = None) -> Clusters | None:
    """Finds the clusters of languages.

    Args:
        pairs: rows with ``language_a``, ``language_b``, ``seed_a``, ``seed_b`` and ``overlap``, of one task and
            sparsity; pairs of one language are ignored. A pair of languages counts with the mean of its rows.
        count: how many clusters; None for the cut at the largest gap.

    Returns:
        The clusters; None with fewer than three languages, or where a pair of languages has no overlap.

    Raises:
        UserError: ``count`` is not between 2 and the number of languages less one.
    """
    overall = _mean_overlaps(pairs)
    names = sorted({name for pair in overall for name in pair})
    if len(names) < FEWEST or len(overall) < len(names) * (len(names) - 1) // 2:
        return None
    if count is not None and not 1 < count < len(names):
        raise UserError(f"{len(names)} languages have between 2 and {len(names) - 1} clusters, not {count}.")
    order, heights, found, cophenetic = _tree(overall, names, count)
    several = len(set(found))
    by_seed = []
    for run in sorted({_run(row, "a") for row in pairs}):
        own = _mean_overlaps([row for row in pairs if _run(row, "a") == _run(row, "b") == run])
        if len(own) == len(overall):
            by_seed.append(_tree(own, names, several)[2])
    together = {
        frozenset(pair): sum(c[i] == c[j] for c in by_seed) / len(by_seed)
        for (i, j), pair in zip(combinations(range(len(names)), 2), combinations(names, 2), strict=True)
        if by_seed
    }
    cut = len(names) - several  # merges below the cut
    return Clusters(
        order=tuple(names[leaf] for leaf in order),
        cluster=_numbered([names[leaf] for leaf in order], dict(zip(names, found, strict=True))),
        gap=heights[cut] - heights[cut - 1],
        cophenetic=cophenetic,
        seeds=len(by_seed),
        stability=mean(adjusted_rand(a, b) for a, b in combinations(by_seed, 2)),
        together=together,
    )


def cluster_rows(tickets: Sequence[Ticket], pairs: Rows, count: int | None = None) -> Rows:
    """Finds the clusters of each set of comparable tickets.

    Args:
        tickets: any tickets.
        pairs: their overlaps, see :func:`lnsub.analysis.overlap.jaccard.overlap`, over all weights.
        count: see :func:`find_clusters`.

    Returns:
        A row for each set and language, in the order of the leaves: the set's columns
        (:data:`lnsub.analysis.overlap.jaccard.COMPARABLE`), ``language``, ``place`` (from 1), ``cluster``, ``held``
        (see :meth:`Clusters.held`), and of the whole set ``clusters``, ``gap``, ``cophenetic``, ``seeds`` and
        ``stability``. No row for a set without clusters.

    Raises:
        UserError: see :func:`find_clusters`.
    """
    named = {id(ticket): label for ticket, label in zip(tickets, labels(tickets), strict=True)}
    rows = []
    for key, members in comparable(tickets).items():
        inside = {named[id(ticket)] for ticket in members}
        found = find_clusters([row for row in pairs if row["a"] in inside and row["b"] in inside], count)
        rows += [dict(zip(COMPARABLE, key, strict=True)) | row for row in language_rows(found)] if found else []
    return rows


def language_rows(found: Clusters) -> Rows:
    """The rows of :func:`cluster_rows` for one set, without the set's columns."""
    whole = {
        "clusters": found.count,
        "gap": found.gap,
        "cophenetic": found.cophenetic,
        "seeds": found.seeds,
        "stability": found.stability,
    }
    return [
        {"language": name, "place": place, "cluster": found.cluster[name], "held": found.held(name)} | whole
        for place, name in enumerate(found.order, start=1)
    ]


def stability_words(seeds: int, stability: float | None) -> str:
    """Says how stable clusters are over seeds."""
    if stability is None:
        return "their stability over seeds is unknown, as there are not two seeds of every language"
    return f"over {seeds} seeds their mean adjusted Rand index is {stability:.2f} (1: the same clusters, 0: chance)"


def adjusted_rand(a: Sequence[int], b: Sequence[int]) -> float:
    """How far two clusterings of the same things agree (Hubert & Arabie, 1985): 1 for the same, 0 on average by chance.

    Args:
        a: the cluster of each thing.
        b: likewise.
    """
    first, second = np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / (len(a) * (len(a) - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _run(row: Mapping[str, Any], side: str) -> str:
    """The run of one side; rows that name none are of plain ones."""
    return str(row.get(f"run_{side}", row[f"seed_{side}"]))


def _mean_overlaps(pairs: Sequence[Mapping[str, Any]]) -> dict[frozenset[str], float]:
    values: dict[frozenset[str], list[float]] = {}
    for row in pairs:
        if row["language_a"] != row["language_b"] and row["overlap"] is not None and row["overlap"] == row["overlap"]:
            values.setdefault(frozenset((row["language_a"], row["language_b"])), []).append(float(row["overlap"]))
    return {pair: sum(found) / len(found) for pair, found in values.items()}


def _tree(
    overlaps: Overlaps, names: Sequence[str], count: int | None
) -> tuple[list[int], list[float], list[int], float | None]:
    """The leaves in order, the heights of the merges, the cluster of each name, and the cophenetic correlation."""
    # Importing scipy takes longer than comparing a few tickets does.
    from scipy.cluster.hierarchy import cophenet, cut_tree, leaves_list, linkage

    distances = np.array([1 - overlaps[frozenset(pair)] for pair in combinations(names, 2)])
    tree = linkage(distances, method="average", optimal_ordering=True)
    heights = [float(height) for height in tree[:, 2]]
    if count is None:
        # Of equal gaps the upper one, which gives fewer clusters. A cut above merge k leaves n - k clusters.
        gaps = np.diff(heights)
        count = len(names) - (len(gaps) - int(np.argmax(gaps[::-1])))
    found = cut_tree(tree, n_clusters=count)[:, 0].tolist()
    varies = np.ptp(distances) > 0 and np.ptp(cophenet(tree)) > 0
    correlation = float(np.corrcoef(cophenet(tree), distances)[0, 1]) if varies else None
    return leaves_list(tree).tolist(), heights, found, correlation


def _numbered(order: Sequence[str], cluster: Mapping[str, int]) -> dict[str, int]:
    """Numbers clusters from 1 in the order of their first leaf."""
    numbers = {old: new for new, old in enumerate(dict.fromkeys(cluster[name] for name in order), start=1)}
    return {name: numbers[cluster[name]] for name in order}
