"""Pairs of tickets on equal terms, averaged by pair of languages."""

import pandas as pd

from lnsub.analysis.overlap.shared import CEILING, CROSS_OTHER, CROSS_SAME
from lnsub.report.figure import joined

SHARES = ("overlap", "chance", "corrected", "departure_overlap", "null", "departure_corrected", "inherited_share")
"""The columns of pairs that are averaged; the last four where there are inherited masks, or theta_0."""


def equal_terms(pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Picks the pairs across languages, and those within a language that they may be held against.

    Runs of one seed share the head's initial values and the order of the data, which alone makes tickets alike. So
    where a language has tickets of several seeds, and languages have pairs of different seeds, these are taken.

    Args:
        pairs: rows with ``relation``, of one study and sparsity.

    Returns:
        Pairs across languages, of different seeds where there is a ceiling, else of any; and the ceiling, the pairs of
        one language with different seeds; no rows where there is none.
    """
    cross = pairs[pairs["relation"].isin([CROSS_SAME, CROSS_OTHER])]
    ceiling, different = pairs[pairs["relation"] == CEILING], cross[cross["relation"] == CROSS_OTHER]
    return (different, ceiling) if len(ceiling) and len(different) else (cross, ceiling[:0])


def shown_pairs(pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Picks the pairs that figures show: all pairs of languages, on an equal footing.

    Args:
        pairs: rows with ``relation``, of one study and sparsity.

    Returns:
        As :func:`equal_terms`, where every two languages have a pair of different seeds. Else pairs across languages of
        the same seed, or of any seeds where not every two languages have one, and no ceiling.
    """
    cross, ceiling = equal_terms(pairs)
    every = pairs[pairs["relation"].isin([CROSS_SAME, CROSS_OTHER])]
    same = every[every["relation"] == CROSS_SAME]
    if len(ceiling) and _languages(cross) == _languages(every):
        return cross, ceiling
    return (same if _languages(same) == _languages(every) else every), ceiling[:0]


def _languages(pairs: pd.DataFrame) -> set[frozenset[str]]:
    return {frozenset(both) for both in zip(pairs["language_a"], pairs["language_b"], strict=True)}


def shares_of(pairs: pd.DataFrame) -> list[str]:
    """Those of :data:`SHARES` that the pairs have."""
    return [column for column in SHARES if column in pairs]


def language_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Averages the pairs that are shown by pair of languages.

    Args:
        pairs: :attr:`lnsub.report.collect.Material.pairs`.

    Returns:
        A row a study, sparsity and ordered pair of languages, ``source`` and ``target``: the means of :data:`SHARES`,
        and ``tickets``, how many pairs they are over. A language beside itself has the overlap of its seeds, where
        it has several. No rows and no columns where there are no pairs.
    """
    if pairs.empty:
        return pd.DataFrame()
    fair = joined([part for _, rows in pairs.groupby(["study", "sparsity"]) for part in shown_pairs(rows)])
    if fair.empty:
        return pd.DataFrame()
    turned = fair.rename(columns={"language_a": "language_b", "language_b": "language_a"})
    ordered = joined([fair, turned[turned["language_a"] != turned["language_b"]]])
    shares = shares_of(ordered)
    ordered[shares] = ordered[shares].astype(float)
    groups = ordered.groupby(["study", "sparsity", "language_a", "language_b"])
    means = groups[shares].mean().assign(tickets=groups.size()).reset_index()
    return means.rename(columns={"language_a": "source", "language_b": "target"})


def mean_pairs(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Averages the pairs that are shown over pairs of languages, of which each counts once however many runs it has.

    Args:
        pairs: rows of pairs, over all weights or by layer.
        by: further columns that tell rows apart, such as ``layer``.

    Returns:
        A row a study, sparsity and ``by``: ``relation`` (of the pairs that count), ``pairs`` (of languages), the means
        of :data:`SHARES`, and the ``lowest`` and ``highest`` overlap of two tickets. No rows and no columns where there
        are no pairs.
    """
    if pairs.empty:
        return pd.DataFrame()
    fair = joined([shown_pairs(rows)[0] for _, rows in pairs.groupby(["study", "sparsity"])])
    if fair.empty:
        return pd.DataFrame()
    shares = shares_of(fair)
    fair[shares] = fair[shares].astype(float)
    both = [" ".join(sorted(pair)) for pair in zip(fair["language_a"], fair["language_b"], strict=True)]
    groups = fair.groupby(["study", "sparsity", *by], sort=False)
    of_pairs = fair.assign(both=both).groupby(["study", "sparsity", *by, "both"], sort=False)[shares].mean()
    by_pair = of_pairs.groupby(level=["study", "sparsity", *by], sort=False)
    means = by_pair.mean().assign(
        pairs=by_pair.size(),
        lowest=groups["overlap"].min(),
        highest=groups["overlap"].max(),
        relation=groups["relation"].agg(lambda found: " and ".join(sorted(set(found)))),
    )
    return means.reset_index()[["study", "sparsity", *by, "relation", "pairs", *shares, "lowest", "highest"]]
