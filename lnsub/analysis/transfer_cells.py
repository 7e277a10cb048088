"""The transfer cells of a tree of runs, and the relative drop of each source language.

A *cell* is a ticket of a source language s fine-tuned on a target language t, and m(s, t) is its metric. Runs of
several seeds are averaged cell by cell first, so that each cell counts once.

Changes keep the metric's own sign: a loss is a negative change of an accuracy, and a positive one of a perplexity. The
column ``higher_is_better`` says which, see :func:`lnsub.analysis.main_metric.of_main_metric`.

A source may be a mixture of languages, written ``en+fa+fr+zh``. Its tickets are transferred to the languages that are
none of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

_STUDY = ("model", "task", "score", "scope", "split", "metric", "higher_is_better", "sparsity")


def languages_of(name: str) -> frozenset[str]:
    """The languages of a source or target: one, or those of a mixture."""
    return frozenset(name.split("+"))


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts sources or targets, each once: languages, then mixtures."""
    return sorted(set(names), key=lambda name: ("+" in name, name))


def average(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Averages records over runs.

    Args:
        frame: records.
        by: the columns that tell measurements apart.

    Returns:
        One row for each combination of ``by`` that occurs, sorted: ``value``, the mean over ``runs`` runs (of different
        seeds, or under tickets of different seeds; what was measured twice counts once), between the ``lowest`` and
        the ``highest``; ``deviation``, the standard deviation over runs (NaN for one); ``n``, see
        :class:`~lnsub.runs.records.Record`; and, where the records have it, the first ``examples``.
    """
    runs = frame.groupby([*by, "seed", "ticket"], dropna=False)
    files = {"examples": ("examples", "first")} if "examples" in frame.columns else {}
    once = runs.agg(value=("value", "mean"), n=("n", "max"), **files).reset_index()
    groups = once.groupby(list(by), dropna=False)
    return groups.agg(
        value=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        deviation=("value", "std"),
        runs=("value", "size"),
        n=("n", "max"),
        **files,
    ).reset_index()


def transfer_cells(frame: pd.DataFrame, kind: str = "transfer") -> pd.DataFrame:
    """Averages the transfer records of each (source, target) over runs, and holds each against m(t, t).

    Args:
        frame: records of one variant of tickets, see :func:`lnsub.runs.tree.read_runs`; other kinds are ignored.
        kind: ``transfer``, or ``zero_shot``, where m(t, t) is the ticket of t, fine-tuned and evaluated on t.

    Returns:
        One row for each model, task, split, metric, sparsity, source and target, and, where the frame has them, score,
        scope and ``higher_is_better``: what :func:`average` gives, ``value`` being m(s, t); ``own`` = m(t, t);
        ``own_deviation``, ``own_runs``, ``own_n`` and ``own_examples``, the same of it;
        ``change`` = m(s, t) - m(t, t), in the metric's units; ``relative`` = change / m(t, t). These are NaN where
        m(t, t) was not measured, ``relative`` also where it is 0. ``abroad`` says whether the cell is a transfer: the
        target is neither the source nor one of its languages.
    """
    study = [column for column in _STUDY if column in frame.columns]
    cells = average(frame[(frame["kind"] == kind) & frame["source"].notna()], [*study, "source", "target"])
    names = {"value": "own", "deviation": "own_deviation", "runs": "own_runs", "n": "own_n", "examples": "own_examples"}
    names = {name: of_own for name, of_own in names.items() if name in cells.columns}
    own = cells.loc[cells["source"] == cells["target"], [*study, "target", *names]].rename(columns=names)
    cells = cells.merge(own, on=[*study, "target"], how="left")
    cells["change"] = cells["value"] - cells["own"]
    cells["relative"] = cells["change"] / cells["own"].where(cells["own"] != 0)
    places = zip(cells["source"], cells["target"], strict=True)
    cells["abroad"] = pd.Series(
        [languages_of(s).isdisjoint(languages_of(t)) for s, t in places], index=cells.index, dtype=bool
    )
    return cells


def relative_drop(cells: pd.DataFrame) -> pd.DataFrame:
    """The relative drop of each source language: its tickets on other languages, held against those languages' own.

    (1 / (|L| - 1)) * sum over t in L, t != s, of (m(s,t) - m(t,t)) / m(t,t), as Foroutan et al. (2022) define it. The
    source's tickets are worse where it is negative, or, of a metric such as perplexity, where it is positive. For a
    mixture the mean is over the targets that are none of its languages, as in the paper's table 1.

    Args:
        cells: of :func:`transfer_cells`.

    Returns:
        One row for each study (model, task, score, ...), sparsity and ``source``: ``drop``, a share of m(t, t);
        ``lowest`` and ``highest`` term of its sum; ``targets`` = |L| - 1, the languages that it is the mean over; and
        ``missing``, those of L for which m(s, t) or m(t, t) was not measured or m(t, t) is 0, by ``;``: the sum is
        then over the others. L holds the languages that are targets of the study at that sparsity, without mixtures. A
        source without a target but itself has no row; a mixture's ``targets`` leave out its own languages.
    """
    study = [column for column in _STUDY if column in cells.columns]
    rows: list[dict[str, Any]] = []
    for key, group in cells.groupby(study, dropna=False):
        languages = [target for target in in_order(group["target"]) if "+" not in target]
        for source in in_order(group["source"]):
            of_source = group[(group["source"] == source) & group["abroad"] & group["target"].isin(languages)]
            terms = of_source[of_source["relative"].notna()]
            if terms.empty:
                continue
            others = [target for target in languages if target not in languages_of(source)]
            missing = [target for target in others if target not in set(terms["target"])]
            rows.append(
                dict(zip(study, key if isinstance(key, tuple) else (key,), strict=True))
                | {"source": source, "drop": float(terms["relative"].mean())}
                | {"lowest": float(terms["relative"].min()), "highest": float(terms["relative"].max())}
                | {"targets": len(terms), "missing": ";".join(missing)}
            )
    return pd.DataFrame(rows, columns=[*study, "source", "drop", "lowest", "highest", "targets", "missing"])
