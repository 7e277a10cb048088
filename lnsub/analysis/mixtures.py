"""The ticket of a mixture of languages beside those of its parts."""

import pandas as pd

from lnsub.analysis.transfer_cells import in_order, languages_of

OWN = "own"
"""The ``source`` of the targets' own tickets."""


def mixture_data(cells: pd.DataFrame) -> pd.DataFrame:
    """Picks the cells that compare a mixture with its parts.

    Args:
        cells: of :func:`lnsub.analysis.transfer_cells.transfer_cells`; those of other sources are ignored.

    Returns:
        The cells of the mixture and of its parts on the targets that are none of its languages and on which each of
        them was measured, with ``mixture``; and the targets' own tickets, as source :data:`OWN`. No rows and no columns
        where there is no such mixture.
    """
    found = []
    by = [column for column in ("study", "model", "task", "score", "scope", "split", "sparsity") if column in cells]
    for _, group in cells.groupby(by, dropna=False, sort=False):
        for mixture in (name for name in in_order(group["source"]) if "+" in name):
            abroad = group[[languages_of(t).isdisjoint(languages_of(mixture)) for t in group["target"]]]
            rows = abroad[(abroad["source"] == mixture) | abroad["source"].isin(languages_of(mixture))]
            sources = set(rows["source"])
            rows = rows[rows.groupby("target")["source"].transform("nunique") == len(sources)]
            if len(sources) < 2 or rows.empty:
                continue
            own = abroad[(abroad["source"] == abroad["target"]) & abroad["target"].isin(rows["target"])]
            found += [rows.assign(mixture=mixture), own.assign(source=OWN, mixture=mixture)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def beats_parts(rows: pd.DataFrame) -> list[bool]:
    """For each target, whether the mixture's ticket is better than that of each of its parts.

    Args:
        rows: of :func:`mixture_data`, of one study, sparsity and mixture, with ``higher_is_better``.
    """
    sign = 1 if rows["higher_is_better"].iloc[0] else -1
    gains = sign * rows[rows["source"] != OWN].pivot_table(index="target", columns="source", values="value")
    mixture = rows["mixture"].iloc[0]
    return [bool(better) for better in gains[mixture] > gains.drop(columns=mixture).max(axis=1)]
