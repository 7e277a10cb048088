"""The tables of an ablation as rows and as text."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from lnsub.analysis.ablation.effects import SET, cells, drop_metric, drops, overall, own_against_others
from lnsub.analysis.main_metric import MainMetric, main_metrics
from lnsub.common.tables import to_table
from lnsub.runs.records import Record


def ablation_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The measurements as rows of one table, for CSV and JSON.

    Args:
        records: of one or more ablations.

    Returns:
        Rows of three kinds, by ``table``: ``cells`` (see :func:`lnsub.analysis.ablation.effects.cells`), ``own``
        (:func:`~lnsub.analysis.ablation.effects.own_against_others`) and ``overall``
        (:func:`~lnsub.analysis.ablation.effects.overall`); None for what there is not.
    """
    found = drops(pd.DataFrame([asdict(record) for record in records]))
    against = own_against_others(found)
    tables = {"cells": cells(found), "own": against, "overall": overall(against)}
    frame = pd.concat([rows.assign(table=name) for name, rows in tables.items() if not rows.empty], ignore_index=True)
    ordered = frame[["table", *(column for column in frame if column != "table")]].astype(object)
    return _rows(ordered)


def ablation_text(records: Sequence[Record], languages: Sequence[str]) -> str:
    """The measurements as tables for the terminal: the metric, its drop, and own against others.

    Args:
        records: of one or more ablations.
        languages: the targets, in order.
    """
    frame = pd.DataFrame([asdict(record) for record in records])
    found = drops(frame)
    blocks = []
    for task, metric in main_metrics(frame).items():
        of_task = found[found["task"] == task]
        means = frame[(frame["task"] == task) & (frame["metric"] == metric.name)]
        for key, rows in of_task.groupby(list(SET), sort=True, dropna=False):
            facts = dict(zip(SET, key, strict=True))
            chosen = means[means["ticket"].isin(rows["ticket"])]
            blocks += [_title(facts), _values(metric, facts, means, chosen, languages), _drops(metric, rows, languages)]
            blocks += _own(rows)
    return "\n\n".join(blocks) + "\n"


def _title(facts: dict[str, Any]) -> str:
    named = f"{facts['score']}, {facts['granularity']}, sparsity {facts['sparsity']:g}"
    return f"{facts['task']}: {facts['what']} of {named} taken away, {facts['fill']} in its place"


def _values(
    metric: MainMetric, facts: dict[str, Any], every: pd.DataFrame, chosen: pd.DataFrame, languages: Sequence[str]
) -> str:
    """The main metric: dense, without each language's units, and without random ones on average."""
    dense = every[every["removed"] == "none"]
    rows: list[dict[Any, Any]] = [{"without": "nothing"} | dense.groupby("target")["value"].mean().to_dict()]
    own = chosen[chosen["removed"] == facts["what"]]
    random = chosen[(chosen["removed"] == "random") & (chosen["drawn_for"] == facts["what"])]
    for source, of_source in own[own["fill"] == facts["fill"]].groupby("source"):
        rows.append({"without": str(source)} | of_source.groupby("target")["value"].mean().to_dict())
    if not random.empty:
        rows.append({"without": "random"} | random.groupby("target")["value"].mean().to_dict())
    return f"{metric.title}\n{to_table(rows, columns=['without', *languages])}"


def _drops(metric: MainMetric, rows: pd.DataFrame, languages: Sequence[str]) -> str:
    """The drops, in brackets in standard deviations of the random draws."""
    table: dict[str, dict[str, Any]] = {}
    averaged = cells(rows)
    for cell in _rows(averaged):
        line = table.setdefault(cell["source"], {"without": cell["source"], "units": round(cell["units"])})
        z = "" if cell["z"] is None else f" ({cell['z']:+.1f})"
        line[cell["target"]] = "-" if cell["drop"] is None else f"{cell['drop']:+.4f}{z}"
    draws = int(averaged["draws"].max())
    title = f"drop of {drop_metric(metric).title}"
    title += f"; in brackets: from the mean of {draws} random removals, in their standard deviations" if draws else ""
    return f"{title}\n{to_table(list(table.values()), columns=['without', 'units', *languages])}"


def _own(rows: pd.DataFrame) -> list[str]:
    """The drop on the own language beside the others'."""
    against = own_against_others(rows)
    if against.empty:
        return []
    drawn = against["draws"].max() > 0
    columns = ["source", "own", "others", "difference", *(["random", "low", "high", "z"] if drawn else [])]
    title = "drop of the own language, and mean drop of the others" + ("; random: 95 % of draws" if drawn else "")
    block = f"{title}\n{to_table(_rows(against), columns=columns)}"
    if (means := overall(against)).empty:
        return [block]
    mean = means.iloc[0]
    line = f"Mean over {mean['languages']} languages: difference {mean['difference']:.4f}"
    line += f", random {mean['random']:.4f}; beyond random {mean['excess']:.4f}" if drawn else ""
    if pd.notna(mean["excess_low"]):
        line += f", 95 % {mean['excess_low']:.4f} to {mean['excess_high']:.4f} (t interval over languages)"
    return [f"{block}\n{line}."]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows, with None for what is no number, such as the loss of a model that overflows."""

    def shown(value: Any) -> Any:
        return None if pd.isna(value) or (isinstance(value, float) and math.isinf(value)) else value

    rows = frame.astype(object).to_dict("records")
    return [{str(column): shown(value) for column, value in row.items()} for row in rows]
