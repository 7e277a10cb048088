"""A tree of runs as one data frame, and what is computed from it: transfer cells, relative drop, correlations.

A *cell* is a ticket of a source language s fine-tuned on a target language t, and m(s, t) is its metric. Runs of
several seeds are averaged cell by cell first, so that each cell counts once.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lnsub.runs.records import FILE_NAME, Record, read

MAIN_METRIC: dict[str, str] = {"xnli": "accuracy", "wikiann": "f1", "mlm": "accuracy"}
"""The metric that speaks for each task; higher is better."""

RESAMPLES = 2000
"""Bootstrap samples of a correlation's interval."""

_STUDY = ("model", "task", "score", "scope", "split", "metric", "sparsity")
_Z = 1.959964  # half the width of a 95 % normal interval, in standard deviations


def read_frame(root: Path) -> pd.DataFrame:
    """Reads the records of all runs below a folder.

    Args:
        root: the tree of runs.

    Returns:
        One row a record, in path order: the fields of :class:`Record`, and ``run``, the folder that the
        record was read from, relative to ``root``. Sparsities are rounded to six decimals, so that equal ones compare
        equal. No rows where there are no records; the columns are there all the same.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(root.rglob(FILE_NAME)):
        run = path.parent.relative_to(root).as_posix()
        rows += [{"run": run, **vars(record)} for record in read(path)]
    frame = pd.DataFrame(rows, columns=["run", *(field.name for field in fields(Record))])
    frame["sparsity"] = frame["sparsity"].astype(float).round(6)
    return frame


def main_metric(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps, of each task, the records of its main metric.

    Args:
        frame: of :func:`read_frame`.

    Returns:
        The rows whose metric is :data:`MAIN_METRIC`'s; of a task that is not named there, accuracy's, or F1's, or those
        of the metric that was recorded first.
    """
    chosen = dict(MAIN_METRIC)
    for task, metrics in frame.groupby("task", sort=False)["metric"]:
        there = list(dict.fromkeys(metrics))
        if task not in chosen:
            chosen[str(task)] = next((m for m in ("accuracy", "f1") if m in there), there[0])
    return frame[frame["metric"] == frame["task"].map(chosen)]


def average(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Averages records over runs.

    Args:
        frame: records.
        by: the columns that tell measurements apart.

    Returns:
        One row for each combination of ``by`` that occurs, sorted: ``value``, the mean over ``runs`` runs (of different
        seeds, or under tickets of different seeds; what was measured twice counts once), between the ``lowest`` and
        the ``highest``, and ``n``, examples.
    """
    runs = frame.groupby([*by, "seed", "ticket"], dropna=False)
    once = runs.agg(value=("value", "mean"), n=("n", "max")).reset_index()
    groups = once.groupby(list(by), dropna=False)
    return groups.agg(
        value=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        runs=("value", "size"),
        n=("n", "max"),
    ).reset_index()


def transfer_cells(frame: pd.DataFrame, kind: str = "transfer") -> pd.DataFrame:
    """Averages the transfer records of each (source, target) over runs, and holds each against m(t, t).

    Args:
        frame: records of one variant of tickets; see :func:`read_frame`. Other kinds of records are left aside.
        kind: ``transfer``, or ``zero_shot``, where m(t, t) is the ticket of t, fine-tuned and evaluated on t.

    Returns:
        One row for each model, task, score, scope (where the frame has that column), split, metric, sparsity, source
        and target: what :func:`average` gives, ``value`` being m(s, t); ``own`` = m(t, t); ``change`` = m(s, t) -
        m(t, t), in the metric's units; ``relative`` = change / m(t, t). The last three are NaN where m(t, t) was not
        measured, ``relative`` also where it is 0.
    """
    study = [column for column in _STUDY if column in frame.columns]
    cells = average(frame[(frame["kind"] == kind) & frame["source"].notna()], [*study, "source", "target"])
    own = cells.loc[cells["source"] == cells["target"], [*study, "target", "value"]].rename(columns={"value": "own"})
    cells = cells.merge(own, on=[*study, "target"], how="left")
    cells["change"] = cells["value"] - cells["own"]
    cells["relative"] = cells["change"] / cells["own"].where(cells["own"] != 0)
    return cells


def relative_drop(cells: pd.DataFrame) -> pd.DataFrame:
    """The relative drop of each source language: what its tickets lose on other languages, against theirs.

    (1 / (|L| - 1)) * sum over t in L, t != s, of (m(s,t) - m(t,t)) / m(t,t); negative where the source's tickets are
    worse. The poster of Foroutan et al. (2022) shows it.

    Args:
        cells: of :func:`transfer_cells`.

    Returns:
        One row for each study (model, task, score, ...), sparsity and ``source``: ``drop``, a share of m(t, t);
        ``lowest`` and ``highest`` term of its sum; ``targets`` = |L| - 1, the languages that it is the mean over; and
        ``missing``, those of L for which m(s, t) or m(t, t) was not measured or m(t, t) is 0, by ``;``: the sum is
        then over the others. L holds the targets of the study at that sparsity. A source without a target but itself
        has no row.
    """
    study = [column for column in _STUDY if column in cells.columns]
    rows: list[dict[str, Any]] = []
    for key, group in cells.groupby(study, dropna=False):
        languages = sorted(set(group["target"]))
        for source, of_source in group.groupby("source"):
            terms = of_source[(of_source["target"] != source) & of_source["relative"].notna()]
            if terms.empty:
                continue
            missing = [t for t in languages if t != source and t not in set(terms["target"])]
            rows.append(
                dict(zip(study, key if isinstance(key, tuple) else (key,), strict=True))
                | {"source": source, "drop": float(terms["relative"].mean())}
                | {"lowest": float(terms["relative"].min()), "highest": float(terms["relative"].max())}
                | {"targets": len(terms), "missing": ";".join(missing)}
            )
    return pd.DataFrame(rows, columns=[*study, "source", "drop", "lowest", "highest", "targets", "missing"])


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
    often as both of its languages were drawn together (the pigeonhole bootstrap of Owen, 2007,
    https://arxiv.org/abs/0712.1111). Draws of fewer than three languages are drawn anew.

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
    weights = _drawn(languages, pairs, resamples, seed) if len(languages) > 3 else np.empty((0, len(a)))
    rows = []
    for coefficient in ("pearson", "spearman"):
        ranked = coefficient == "spearman"
        value = float(_weighted(a, b, np.ones((1, len(a))), ranked)[0]) if len(a) > 2 else np.nan
        found = _weighted(a, b, weights, ranked)
        found = found[np.isfinite(found)]
        rows.append(
            {"coefficient": coefficient, "value": value if np.isfinite(value) else None}
            | dict(zip(("fisher_low", "fisher_high"), _fisher(value, len(a), ranked), strict=True))
            | {"bootstrap_low": float(np.percentile(found, 2.5)) if found.size else None}
            | {"bootstrap_high": float(np.percentile(found, 97.5)) if found.size else None}
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


def _drawn(languages: list[str], pairs: Sequence[tuple[str, str]], resamples: int, seed: int) -> np.ndarray:
    """How often each pair counts in each bootstrap sample: (resamples, pairs)."""
    rng = np.random.default_rng(seed)
    size = len(languages)
    place = {language: i for i, language in enumerate(languages)}
    first, second = np.array([(place[s], place[t]) for s, t in pairs]).T
    rows = np.empty((resamples, len(pairs)))
    for row in rows:
        often = np.zeros(size)
        while np.count_nonzero(often) < 3:
            often = np.bincount(rng.integers(0, size, size), minlength=size).astype(float)
        row[:] = often[first] * often[second]
    return rows


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
