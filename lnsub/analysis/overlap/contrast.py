"""Language against data sample: are two runs of one language more alike than two runs of different languages?

Two sets of runs, such as ``seed57`` and ``seed57-sample1`` (the same head and order, other rows), have a run of each
language each. The table of languages x languages says how alike each run of the one is to each of the other. Its
diagonal is one language on other rows; beside it another language, on other rows too. Whatever all runs of the two sets
share stands in both.

Were languages interchangeable, the diagonal would be as good as any other pairing of the languages of the two sets. So
the languages of one set are permuted, which leaves what is a language's own in all of its pairs where it is, as sums of
such effects are the same for every pairing. The test is one-sided: it asks whether the diagonal is higher.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lnsub.analysis.jackknife import interval
from lnsub.analysis.overlap.by_shared import means_by_language, measures_of, sets_of_pairs
from lnsub.analysis.overlap.jaccard import ALIKE, ratio
from lnsub.analysis.overlap.shared import GIVEN, pair_labels
from lnsub.analysis.permutations import orders
from lnsub.tickets.ticket import Ticket

MOST = 8
"""Languages up to which all permutations are tried."""
DRAWN = 10_000
"""Permutations of more languages than that, the identity among them."""
_TINY = 1e-12

Rows = list[dict[str, Any]]


def language_contrasts(
    tickets: Sequence[Ticket], pairs: Rows, sets: Iterable[tuple[str, str]], by: Iterable[str] = ()
) -> Rows:
    """Contrasts languages with data samples over pairs of sets of runs.

    Args:
        tickets: tickets of one base model.
        pairs: the rows of their pairs, see :class:`lnsub.analysis.overlap.comparison.Comparison`.
        sets: each two sets of runs by the names of their folders: ``("seed57", "seed57-sample1")``.
        by: columns by which the rows are grouped, such as ``layer``.

    Returns:
        The rows of :func:`contrast_rows` for each set of tickets that are
        :data:`lnsub.analysis.overlap.jaccard.ALIKE`, group of ``by`` and two sets of runs, with the columns of all.
    """
    by, asked = tuple(by), list(sets)
    return [
        dict(zip(ALIKE, key, strict=True)) | dict(zip(by, group, strict=True)) | row
        for key, group, inside in sets_of_pairs(tickets, pairs, by)
        for runs in asked
        for row in contrast_rows(inside, runs)
    ]


def contrast_rows(pairs: Rows, runs: tuple[str, str]) -> Rows:
    """Contrasts languages with data samples over two sets of runs.

    Args:
        pairs: rows of pairs of tickets that differ only in their runs.
        runs: the two sets.

    Returns:
        A row a measure: ``runs_a``, ``runs_b``, ``shared`` (what pairs of two languages share) and ``shared_same``
        (what pairs of one do), ``measure``, and the values of :func:`contrast`. No row where the two sets have fewer
        than two languages in common.
    """
    between = pairs_between(pairs, runs)
    tables = {measure: table_of(between, measure)[1] for measure in measures_of(between)}
    about = {"runs_a": runs[0], "runs_b": runs[1], **_shared(between)}
    return [about | {"measure": name} | contrast(table) for name, table in tables.items() if len(table) > 1]


def pairs_between(pairs: Rows, runs: tuple[str, str]) -> Rows:
    """The pairs of a run of one set with a run of another, turned so that ``a`` is of the first."""
    found = []
    for row in pairs:
        if (row["run_a"], row["run_b"]) == runs:
            found.append(row)
        elif (row["run_b"], row["run_a"]) == runs:
            found.append(row | {"language_a": row["language_b"], "language_b": row["language_a"]})
    return found


def table_of(between: Rows, measure: str) -> tuple[list[str], np.ndarray]:
    """The languages that both sets of runs have with all of each other, and the (L, L) table of a measure.

    Args:
        between: see :func:`pairs_between`.
        measure: the column.
    """
    names, means = means_by_language(between, measure, ordered=True)
    own = [at for at in range(len(names)) if not math.isnan(means[at, at])]
    # Of languages with gaps among themselves, those with most gaps are left out first.
    while own and np.isnan(inside := means[np.ix_(own, own)]).any():
        gaps = np.isnan(inside)
        own.pop(int((gaps.sum(axis=0) + gaps.sum(axis=1)).argmax()))
    return [names[at] for at in own], means[np.ix_(own, own)]


def contrast(table: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Contrasts the diagonal of a table with what lies beside it.

    Args:
        table: (L, L) how alike the run of each language in one set is to that of each language in the other, L > 1.
        seed: seed of the permutations, where they are drawn.

    Returns:
        ``same_language`` and ``other_language``, the means on and beside the diagonal; their ``difference``, and
        ``ratio`` = other / same, each with a 95 % interval (``_low``, ``_high``) by the jackknife over languages, None
        with fewer than three; ``p``, the share of pairings of the languages whose mean is as high as that of each with
        itself, which is one of them; ``smallest_p``, which it cannot be below; and ``languages``.

    Raises:
        ValueError: the table is not square, has fewer than two languages or a gap.
    """
    size = len(table)
    if table.shape != (size, size) or size < 2 or not np.isfinite(table).all():
        raise ValueError(f"a contrast is of two languages or more with no gap; this table has the shape {table.shape}")
    off = ~np.eye(size, dtype=bool)

    def means(weights: list[np.ndarray]) -> tuple[float | None, float | None]:
        (weight,) = weights
        beside = np.outer(weight, weight) * off
        same = ratio(float(weight @ np.diag(table)), float(weight.sum()))
        return same, ratio(float((beside * table).sum()), float(beside.sum()))

    def difference(weights: list[np.ndarray]) -> float | None:
        same, other = means(weights)
        return None if same is None or other is None else same - other

    def share(weights: list[np.ndarray]) -> float | None:
        same, other = means(weights)
        return None if same is None or other is None else ratio(other, same)

    every = [np.ones(size)]
    same, other = means(every)
    found: dict[str, Any] = {"same_language": same, "other_language": other}
    for name, statistic in (("difference", difference), ("ratio", share)):
        low, high = interval(statistic, [size])
        found |= {name: statistic(every), f"{name}_low": low, f"{name}_high": high}
    moved = orders(size, seed, all_up_to=MOST, drawn=DRAWN)
    paired = table[np.arange(size), moved].sum(axis=1)
    p = float((paired >= paired[0] - _TINY * size).mean())
    return found | {"p": p, "smallest_p": 1 / len(moved), "languages": size}


def _shared(between: Rows) -> dict[str, str]:
    """What the pairs of two languages share, and those of one, with the labels where they were shuffled."""
    found = {}
    for name, same in (("shared", False), ("shared_same", True)):
        words = {
            row["shared"] + ("" if (labels := pair_labels(row)) == GIVEN else f", labels {labels}")
            for row in between
            if (row["language_a"] == row["language_b"]) is same
        }
        found[name] = " or ".join(sorted(words))
    return found
