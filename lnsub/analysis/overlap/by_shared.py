"""How alike tickets are by what they share: the controls of every claim on languages.

Runs of one language resemble each other for their language, but also for a head, an order or rows that they share, and
runs of shuffled labels resemble each other for nothing that the labels say. One table has the mean of each class of
pairs, from those that share most to the floor.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lnsub.analysis.jackknife import interval
from lnsub.analysis.overlap.jaccard import ALIKE, comparable, labels, ratio
from lnsub.analysis.overlap.shared import GIVEN, ONE_SHUFFLED, SHUFFLED, pair_labels
from lnsub.tickets.ticket import Ticket

Rows = list[dict[str, Any]]

MEASURES: tuple[str, ...] = ("departure_corrected", "departure_overlap", "overlap", "corrected")
"""Measures of a pair, the headline first; the first takes theta_0, the second inherited masks."""


def by_shared(tickets: Sequence[Ticket], pairs: Rows, by: Iterable[str] = ()) -> Rows:
    """Averages the pairs of tickets by what they share.

    Args:
        tickets: tickets of one base model.
        pairs: the rows of their pairs, see :class:`lnsub.analysis.overlap.comparison.Comparison`.
        by: columns by which the rows are grouped, such as ``layer``.

    Returns:
        The rows of :func:`class_means` for each set of tickets that are
        :data:`lnsub.analysis.overlap.jaccard.ALIKE` and each group of ``by``, with the columns of both.
    """
    by = tuple(by)
    return [
        dict(zip(ALIKE, key, strict=True)) | dict(zip(by, group, strict=True)) | row
        for key, group, inside in sets_of_pairs(tickets, pairs, by)
        for row in class_means(inside)
    ]


def class_means(pairs: Rows) -> Rows:
    """Averages pairs of tickets that differ only in their runs by what they share.

    Args:
        pairs: their rows.

    Returns:
        Rows for each class of pairs (``shared``, and ``trained_on``, the labels, see
        :func:`lnsub.analysis.overlap.shared.pair_labels`) and ``measure``: the ``mean``, its 95 % interval ``low`` and
        ``high`` by the jackknife over languages, None with fewer than three, ``pairs`` (of tickets) and ``languages``.
        Every two languages, and every language with itself, counts once, however many runs it has. Classes that share
        most come first, those of shuffled labels last.
    """
    classes: dict[tuple[str, str], Rows] = {}
    for row in pairs:
        classes.setdefault((row["shared"], pair_labels(row)), []).append(row)
    return [
        {"shared": shared, "trained_on": trained_on, "measure": measure} | _mean(classes[shared, trained_on], measure)
        for shared, trained_on in sorted(classes, key=_place)
        for measure in measures_of(classes[shared, trained_on])
    ]


def sets_of_pairs(
    tickets: Sequence[Ticket], pairs: Rows, by: tuple[str, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[str, ...], Rows]]:
    """Sorts pairs into those of tickets that differ only in their runs.

    Yields:
        What the tickets have in common (:data:`lnsub.analysis.overlap.jaccard.ALIKE`), the group of ``by``, and the
        rows.
    """
    named = dict(zip(map(id, tickets), labels(tickets), strict=True))
    for key, members in comparable(tickets, ALIKE).items():
        among = {named[id(ticket)] for ticket in members}
        groups: dict[tuple[str, ...], Rows] = {}
        for row in pairs:
            if row["a"] in among and row["b"] in among:
                groups.setdefault(tuple(row[column] for column in by), []).append(row)
        for group, inside in groups.items():
            yield key, group, inside


def measures_of(pairs: Rows) -> list[str]:
    """Those of :data:`MEASURES` that pairs have."""
    return [measure for measure in MEASURES if any(_known(row.get(measure)) for row in pairs)]


def means_by_language(pairs: Rows, measure: str, *, ordered: bool = False) -> tuple[list[str], np.ndarray]:
    """The mean of a measure over the pairs of each two of L languages.

    Args:
        pairs: rows of pairs.
        measure: the column.
        ordered: the language of ``a`` lies down and that of ``b`` across; else a pair counts for both orders.

    Returns:
        The languages, sorted, and (L, L) means, NaN where there is no pair.
    """
    names = sorted({row[f"language_{side}"] for row in pairs for side in "ab"})
    sums, counts = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for row in pairs:
        if _known(row.get(measure)):
            at = names.index(row["language_a"]), names.index(row["language_b"])
            for place in {at} if ordered else {at, at[::-1]}:
                sums[place] += row[measure]
                counts[place] += 1
    return names, np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _known(value: float | None) -> bool:
    """Whether there is a value; in rows of a frame NaN stands for None."""
    return value is not None and not math.isnan(value)


def _place(of_class: tuple[str, str]) -> tuple[int, bool, int, str]:
    """Where a class stands: given labels first, one language before two, most shared first."""
    shared, trained_on = of_class
    words = shared.split(" + ")
    return (GIVEN, ONE_SHUFFLED, SHUFFLED).index(trained_on), "language" not in words, -len(words), shared


def _mean(pairs: Rows, measure: str) -> dict[str, Any]:
    names, means = means_by_language(pairs, measure)
    there = np.triu(~np.isnan(means))
    values = np.where(there, means, 0)

    def statistic(weights: list[np.ndarray]) -> float | None:
        weight = np.outer(weights[0], weights[0]) * there
        return ratio(float((weight * values).sum()), float(weight.sum()))

    low, high = interval(statistic, [len(names)])
    return {"mean": statistic([np.ones(len(names))]), "low": low, "high": high} | {
        "pairs": sum(_known(row.get(measure)) for row in pairs),
        "languages": len(names),
    }
