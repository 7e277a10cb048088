"""Beside the paper: published and measured numbers of the same model and task, cell by cell."""

import math
from typing import Any

import pandas as pd

from lnsub.analysis.criteria import standard_error
from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.transfer_cells import average, in_order, relative_drop, transfer_cells
from lnsub.charts.drawing import Drawing
from lnsub.charts.heat import Shading, heat_map
from lnsub.report import published
from lnsub.report.collect import Material
from lnsub.report.evidence import Tables, study_facts
from lnsub.report.figure import Figure, Missing, Panel, by_study, joined, percent
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.languages import labels
from lnsub.report.metric_text import change_unit, decimals, named, scale, with_unit, written, written_change
from lnsub.report.spread import seeds_of

TITLE = "Beside the paper"

DEVIATIONS, ERRORS = "standard deviations over seeds", "binomial standard errors"

_ROWS = ("dense", "random")


def beside_figure(material: Material, tables: Tables) -> Figure | Missing:
    """Published and measured side by side, for studies on a model and task that the paper has numbers of.

    Args:
        material: what the report was drawn from.
        tables: the tables of its other figures.
    """
    data = beside_data(material, tables)
    if data.empty:
        names = " and ".join(f"{name} ({base})" for base, name in published.MODELS.items())
        return Missing(
            TITLE,
            f"the paper has numbers of {names} alone, at 50 % and of MLM, NER and XNLI, or XNLI alone; this report has "
            "none of the same model, task and language",
        )
    cells = data[data["what"].isin(["ticket", *_ROWS])]
    panels = []
    for study, rows in by_study(cells, material.studies):
        metric = material.metrics[study]
        values = Shading.of(
            [scale(metric) * v for column in ("published", "measured") for v in rows[column]],
            decimals=decimals(metric),
            falling=not metric.higher_is_better,
        )
        changes = Shading.of(
            [scale(metric) * v for v in rows["difference"]], True, decimals(metric), falling=not metric.higher_is_better
        )
        for column, title, unit, shading in (
            ("published", f"published {with_unit(metric)}", with_unit(metric), values),
            ("measured", f"measured {with_unit(metric)}", with_unit(metric), values),
            ("difference", f"measured less published, {change_unit(metric)}", change_unit(metric), changes),
        ):
            drawing = _square(rows, column, scale(metric), shading, f"{study}: {named(metric)}, {column}", unit)
            panels.append(Panel(f"{study}: {title}", drawing, study, 0.5, column, group=study))
        for named_unit, part in rows[rows["in_deviations"].notna()].groupby("unit"):
            unit = str(named_unit)
            shading = Shading.of(list(part["in_deviations"]), True, falling=not metric.higher_is_better)
            drawing = _square(part, "in_deviations", 1.0, shading, f"{study}: difference in {unit}", unit)
            panels.append(Panel(f"{study}: difference in {unit}", drawing, study, 0.5, unit, group=study))
    reading = (
        "Published and measured values at 50 % (dense: the whole model; random: a random mask), each source's ticket "
        "on each target. The difference is measured less published, blue where the measured value is better. It is "
        f"also given in {DEVIATIONS} of the measured value, as those of the paper were not published; with one seed "
        f"these are unknown, and {ERRORS} of the accuracy stand in for them in XNLI alone. The CSV has the relative "
        "drops, sparsest winning tickets and tickets of other tasks too."
    )
    return Figure(
        "beside_the_paper",
        TITLE,
        f"{reading} Deviations and standard errors are no confidence intervals, and nothing is resampled.",
        f"{seeds_of(material, _tickets(material))} The published numbers are means of three.",
        tuple(panels),
        data,
        _lead(data, material),
        _table(data, material),
    )


def beside_data(material: Material, tables: Tables) -> pd.DataFrame:
    """Joins published and measured numbers.

    Returns:
        A row a study, ``what`` and place that both have: ``what`` is ``ticket`` (a source's on a target), ``dense``,
        ``random``, ``relative drop`` (of a source; a share), ``winning sparsity`` (of a language) or ``other task``
        (the difference of a task's ticket, the ``source``, in a language, to the target task's own); ``published`` and
        ``measured`` in records' units, ``difference`` = measured - published; ``deviation`` of the measured value,
        its ``unit`` (:data:`DEVIATIONS` or :data:`ERRORS`; empty where there is neither), ``in_deviations``, ``runs``.
        No rows and no columns where nothing is of the same model, task and language.
    """
    found = []
    for study, (model, task, _, _) in study_facts(material).items():
        name = published.MODELS.get(model)
        if name is None or study not in material.metrics:
            continue
        cells = published.transfer()
        cells = cells[(cells["model"] == name) & (cells["task"] == task)]
        if cells.empty:
            continue
        ours = _measured(material, tables, study, model, task)
        theirs = _published(cells, name, task)
        joint = theirs.merge(ours, on=["what", "source", "target"])
        found.append(joint.assign(study=study, model=model, task=task, metric=material.metrics[study].name))
    data = joined(found) if found else pd.DataFrame()
    if data.empty:
        return pd.DataFrame()
    data["difference"] = data["measured"] - data["published"]
    data["in_deviations"] = (data["difference"] / data["deviation"].where(data["deviation"] > 0)).astype(float)
    first = ["study", "model", "task", "metric"]
    return data[[*first, *(column for column in data.columns if column not in first)]]


def _published(cells: pd.DataFrame, name: str, task: str) -> pd.DataFrame:
    """The paper's numbers of one model and task: ``what``, ``source``, ``target``, ``published``."""
    tickets = transfer_cells(cells)
    rows = [_row("ticket", row["source"], row["target"], row["value"]) for row in tickets.to_dict("records")]
    rows += [_row("relative drop", row["source"], "", row["drop"]) for row in relative_drop(tickets).to_dict("records")]
    for row in cells[cells["variant"] != "ticket"].to_dict("records"):
        rows.append(_row(row["variant"], "", row["target"], row["value"]))
    winning, across = published.winning_tickets(), published.across_tasks()
    for row in winning[(winning["model"] == name) & (winning["task"] == task)].to_dict("records"):
        rows.append(_row("winning sparsity", "", row["language"], row["sparsity"]))
        if row["sparsity"] == 0.5:
            rows.append(_row("random", "", row["language"], row["random"]))
    for row in across[(across["model"] == name) & (across["target_task"] == task)].to_dict("records"):
        if row["source_task"] != "random":
            rows.append(_row("other task", row["source_task"], row["language"], row["change"]))
    return pd.DataFrame(rows).rename(columns={"value": "published"})


def _measured(material: Material, tables: Tables, study: str, model: str, task: str) -> pd.DataFrame:
    """The report's numbers of one study at 50 %: the same columns, ``measured``, ``deviation``, ``unit``, ``runs``."""
    metric, records = material.metrics[study], material.records

    def of(name: str) -> list[dict[Any, Any]]:
        table = tables.get(name, pd.DataFrame())
        found = table if table.empty else table[table["study"] == study]
        at_half = found[(found["sparsity"] - 0.5).abs() < 1e-6] if len(found) and name != "winning_tickets" else found
        return list(at_half.to_dict("records"))

    rows = [_row("ticket", r["source"], r["target"], r["value"], _spread(r, metric, task)) for r in of("transfer")]
    rows += [_row("relative drop", r["source"], "", r["drop"]) for r in of("relative_drop")]
    near = records[(records["model"] == model) & (records["task"] == task)]
    first = near[(near["study"] == study) & (near["kind"] == "imp") & (near["sparsity"] == 0)]
    apart = near[(near["variant"] == "dense") & near["kind"].isin(["dense", "transfer"])]
    random = near[(near["variant"] == "random") & (near["kind"] == "transfer") & (near["sparsity"] == 0.5)]
    for what, part in (("dense", apart if len(apart) else first), ("random", random)):
        for r in average(part, ["target"]).to_dict("records"):
            rows.append(_row(what, "", r["target"], r["value"], _spread(r, metric, task)))
    rows += [_row("winning sparsity", "", r["language"], r["sparsity"]) for r in of("winning_tickets")]
    rows += [_row("other task", r["source_task"], r["language"], r["value"] - r["own"]) for r in of("across_tasks")]
    frame = pd.DataFrame(rows, columns=["what", "source", "target", "value", "deviation", "unit", "runs"])
    return frame.rename(columns={"value": "measured"})


def _row(what: str, source: str, target: str, value: float, spread: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"what": what, "source": source, "target": target, "value": value} | (spread or {})


def _spread(row: dict[Any, Any], metric: MainMetric, task: str) -> dict[str, Any]:
    """The deviation over seeds of a measured value; with one seed the binomial one where the metric is a share of n."""
    if row["runs"] > 1 and not math.isnan(row["deviation"]):
        return {"deviation": row["deviation"], "unit": DEVIATIONS, "runs": row["runs"]}
    if task in published.EXAMPLES and metric.is_share:
        return {"deviation": standard_error(row["value"], row["n"]), "unit": ERRORS, "runs": row["runs"]}
    return {"deviation": math.nan, "unit": "", "runs": row["runs"]}


def _tickets(material: Material) -> pd.DataFrame:
    """The records of tickets on other languages, of the studies that the paper has too."""
    records = material.records
    models = records["model"].isin(list(published.MODELS))
    return records[models & (records["kind"] == "transfer") & (records["variant"] == "ticket")]


def _square(rows: pd.DataFrame, column: str, factor: float, shading: Shading, label: str, unit: str) -> Drawing:
    where = [row["source"] if row["what"] == "ticket" else row["what"] for row in rows.to_dict("records")]
    sources = in_order(name for name in where if name not in _ROWS)
    return heat_map(
        {place: factor * v for place, v in zip(zip(where, rows["target"], strict=True), rows[column], strict=True)},
        [*sources, *(name for name in _ROWS if name in where)],
        in_order(rows["target"]),
        shading,
        label=label,
        unit=unit,
        row_title="source",
        column_title="target",
        names=labels(sources),
    )


def _table(data: pd.DataFrame, material: Material) -> str:
    """The means of what both have, by study."""
    body = []
    for study, found in by_study(data, material.studies):
        metric = material.metrics[study]
        for what, rows in found.groupby("what", sort=False):
            known = rows["in_deviations"].dropna().abs()
            share = what in {"relative drop", "winning sparsity"}
            known_both = rows.dropna(subset=["published", "measured"])
            if known_both.empty:
                continue
            means = [float(known_both[column].mean()) for column in ("published", "measured", "difference")]
            if share:
                shown = [percent(mean) for mean in means]
            elif what == "other task":
                shown = [written_change(metric, mean) for mean in means]
            else:
                shown = [written(metric, means[0]), written(metric, means[1]), written_change(metric, means[2])]
            within = f"{int((known <= 1).sum())}, {int((known <= 2).sum())} of {len(known)}" if len(known) else DASH
            unit = ", ".join(sorted({unit for unit in rows["unit"].dropna() if unit})) or DASH
            body.append([study, str(what), str(len(known_both)), *shown, within, unit])
    head = ("study", "what", "values", "published", "measured", "difference", "within one, two", "unit")
    return rows_table(head, body)


def _lead(data: pd.DataFrame, material: Material) -> str:
    parts = []
    for study, rows in by_study(data[data["what"] == "ticket"], material.studies):
        known = rows["in_deviations"].dropna().abs()
        mean = written_change(material.metrics[study], float(rows["difference"].mean()))
        text = f"{study} {mean} on average over {len(rows)} cells"
        if len(known):
            units = " or ".join(sorted(set(rows.loc[rows["in_deviations"].notna(), "unit"])))
            text += f", {int((known <= 2).sum())} of {len(known)} within two {units}"
        parts.append(text)
    return f"Measured less published: {'; '.join(parts)}." if parts else ""
