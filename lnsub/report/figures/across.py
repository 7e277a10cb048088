"""Tickets of other tasks in one language, as in figure 9 of Foroutan et al. (2022)."""

from typing import Any

import pandas as pd

from lnsub.analysis.criteria import Measured, published_verdict, verdict
from lnsub.analysis.main_metric import task_title
from lnsub.analysis.transfer_cells import average, in_order
from lnsub.charts.bars import bar_groups
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_panel, listed, sparsity_name
from lnsub.report.figures.winning import random_values
from lnsub.report.languages import labels
from lnsub.report.metric_text import named, scale, tolerance_words, unjudged_words, written_change
from lnsub.report.spread import NO_INTERVAL, seeds_of

TITLE = "Across tasks"

RANDOM = "random"
"""The ``source_task`` of a random mask."""

NONE_THERE = (
    "there are no transfer records of tickets of another task in the same language beside the target task's own; "
    "`lnsub transfer` makes them where --tickets names tickets of another task"
)


def across_figure(material: Material, options: Options) -> Figure | Missing:
    """Tickets of other tasks on each language, held against the task's own ticket of that language."""
    data = across_data(material, options)
    if data.empty:
        return Missing(TITLE, NONE_THERE)
    tasks = [*sorted(set(data["source_task"]) - {RANDOM}, key=task_title), RANDOM]
    order = [_task(task) for task in tasks]
    panels, leads = [], []
    for study, sparsity, rows in by_panel(data, material.studies, options):
        metric = material.metrics[study]
        groups = {
            language: {
                _task(task): row["difference"]
                for task in tasks
                for row in _of(rows, language=language, source_task=task).to_dict("records")
            }
            for language in in_order(rows["language"])
        }
        drawing = bar_groups(
            groups,
            label=f"{study}, {sparsity_name(sparsity)} pruned: difference of {named(metric)} to the task's own ticket",
            x_label=f"difference of {named(metric)}{', points' if metric.is_share else ''}",
            order=order,
            names=labels(groups),
            decimals=1 if metric.is_share else 2,
        )
        title = f"{study} from other tasks' tickets, {sparsity_name(sparsity)} pruned"
        panels.append(Panel(title, drawing, study, sparsity))
        means = [
            f"{_task(task)} {written_change(metric, float(found.mean()) / scale(metric))}"
            for task in tasks
            if len(found := _of(rows, source_task=task)["difference"])
        ]
        leads.append((study, sparsity, listed(means)))
    others = data[data["source_task"] != RANDOM]
    words = tolerance_words(others["criterion"], [material.metrics[s] for s in set(data["study"])], options.tolerance)
    reading = (
        "A ticket that was found on another task in a language, fine-tuned on this task in the same language: the "
        "difference to this task's own ticket of that language, at the same sparsity, beside that of a random mask. "
        "Below zero it is worse; of a metric that is better when lower, above zero. The CSV says which succeed: those "
        f"that fall short by no more than {words or 'can be told'}.{unjudged_words(others['criterion'])} {NO_INTERVAL}"
    )
    if RANDOM not in set(data["source_task"]):
        reading += " Random masks were not measured, so that nothing is said of how far a ticket is better than chance."
    seeds = seeds_of(material, _fits(material))
    lead = f"Mean difference to the task's own ticket: {by_level(leads)}." if leads else ""
    return Figure("across_tasks", TITLE, reading, seeds, tuple(panels), data, lead)


def across_data(material: Material, options: Options) -> pd.DataFrame:
    """Tickets of other tasks in one language, held against the task's own ticket.

    Returns:
        A row a study (of the target task), sparsity, language and source task (``random`` for a random mask, where
        there is a ticket of another task too): ``value`` and ``own`` in the metric's units; ``difference`` = value -
        own, in points of a share, else in the metric's units; ``tolerance``, ``criterion`` and ``successful``, see
        :mod:`lnsub.analysis.criteria`; ``runs`` and ``n``.
    """
    same = _fits(material)
    found = same[same["variant"] == "other task"]
    by = ["study", *STUDY, "split", "metric", "higher_is_better", "sparsity"]
    if found.empty:
        return pd.DataFrame()
    task = found["source_task"].where(found["source_task"].notna(), found["found_on"])
    cells = average(found.assign(source_task=task), [*by, "target", "source_task"])
    own = {
        tuple(row[column] for column in (*by, "target")): row
        for row in average(same[same["variant"] == "ticket"], [*by, "target"]).to_dict("records")
    }
    rows = cells.to_dict("records")
    random = random_values(material)
    for row in cells.drop_duplicates([*by, "target"]).to_dict("records"):
        value = random.get((row["model"], row["task"], row["target"], row["sparsity"]))
        rows += [] if value is None else [row | {"source_task": RANDOM, "value": value, "examples": None}]
    held = [
        _held(row, own[key], material, options)
        for row in rows
        if row["study"] in material.metrics and (key := tuple(row[column] for column in (*by, "target"))) in own
    ]
    return pd.DataFrame(held)


def _fits(material: Material) -> pd.DataFrame:
    """The records of tickets on the language that they were found on, of this task or of another."""
    records = material.records
    own = (records["kind"] == "transfer") & (records["source"] == records["target"])
    return records[own & records["variant"].isin(["ticket", "other task"])]


def _held(row: dict[Any, Any], own: dict[Any, Any], material: Material, options: Options) -> dict[Any, Any]:
    metric = material.metrics[row["study"]]
    found, reference = Measured.of(row), Measured.of(own)
    if material.about and options.tolerance is None:
        made = published_verdict(found, reference, metric, own["n"])
    else:
        made = verdict(found, reference, metric, options.tolerance)
    change = row["value"] - own["value"]
    facts = {column: row[column] for column in ("study", "model", "score", "scope", "metric", "higher_is_better")}
    return facts | {
        "sparsity": row["sparsity"],
        "language": row["target"],
        "target_task": row["task"],
        "source_task": row["source_task"],
        "value": row["value"],
        "own": own["value"],
        "difference": scale(metric) * change,
        "tolerance": made.tolerance,
        "criterion": made.criterion,
        "successful": made.holds,
        "runs": row["runs"],
        "n": row["n"],
    }


def _of(rows: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def _task(name: str) -> str:
    return "random masks" if name == RANDOM else f"{task_title(name)} tickets"
