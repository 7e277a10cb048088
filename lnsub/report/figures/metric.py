"""The metric against sparsity, and the highest sparsity that still matches the dense model."""

import math

import pandas as pd

from lnsub.analysis.criteria import Measured, verdict
from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.transfer_cells import average
from lnsub.charts.lines import Line, line_plot
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_study, listed, sparsity_name
from lnsub.report.languages import labels
from lnsub.report.metric_text import decimals, named, scale, tolerance_words, unjudged_words, with_unit
from lnsub.report.spread import NO_INTERVAL, RANGE, seeds_of

TITLE = "Metric against sparsity"

_HELD = ("dense", "tolerance", "criterion", "matches")


def metric_by_sparsity(material: Material, options: Options) -> Figure | Missing:
    """The metric of each round of pruning, a line a language, with the highest sparsity that still matches dense."""
    rounds = material.records[material.records["kind"] == "imp"]
    if rounds.empty:
        return Missing(
            TITLE, "there are no records of pruning rounds (kind imp); `lnsub fit` with IMPCallback makes them"
        )
    data = metric_data(rounds, material, options)
    panels, leads = [], []
    for study, rows in by_study(data, material.studies):
        metric = material.metrics[study]
        lines = [_line(str(language), group, metric) for language, group in rows.groupby("language")]
        drawing = line_plot(
            lines,
            label=f"{study}: {named(metric)} against sparsity, a line for each of {len(lines)} languages",
            x_label="sparsity, %",
            y_label=with_unit(metric),
            order=material.order,
            names=labels(line.name for line in lines),
            decimals=decimals(metric),
            languages=True,
            ring="highest sparsity that matches it",
            level="dense model, in the language's colour",
        )
        panels.append(Panel(study, drawing, study))
        leads += [f"{study} {levels}"] if (levels := _levels(rows)) else []
    reading = (
        "Each point is one round: a model fine-tuned from its pre-trained weights under the mask of that sparsity and "
        "measured on its own language."
    )
    if data["dense"].notna().any():
        reading += " The dotted line is the dense model."
    else:
        reading += " No dense model was measured, so that nothing is said of what matches it."
    known = data.loc[data["dense"].notna() & (data["sparsity"] > 0), "criterion"]
    if words := tolerance_words(known, material.metrics.values(), options.tolerance):
        reading += (
            f" A point matches it when it falls short of it by no more than {words}; the ring marks the highest "
            "sparsity that does: the table of winning tickets has these."
        )
    reading += unjudged_words(known)
    runs = int(data["runs"].max())
    reading += f" Points are means over up to {runs} runs; {RANGE}." if runs > 1 else f" {NO_INTERVAL}"
    seeds = seeds_of(material, rounds, ("target", "sparsity"))
    lead = f"The highest sparsity that still matches the dense model: {'; '.join(leads)}." if leads else ""
    return Figure("metric_by_sparsity", TITLE, reading, seeds, tuple(panels), data, lead)


def metric_data(rounds: pd.DataFrame, material: Material, options: Options) -> pd.DataFrame:
    """The rounds of pruning averaged over runs, each held against the dense model.

    Args:
        rounds: records of kind ``imp``, of main metrics.
        material: all records; a separately trained dense model is used where a language has no round at sparsity 0.
        options: the tolerance.

    Returns:
        A row a study, language and sparsity: what :func:`average` gives, ``dense`` (NaN where unknown),
        ``tolerance``, ``criterion`` and ``matches`` (see :class:`lnsub.analysis.criteria.Verdict`; None where there is
        no verdict), and ``best``: the highest sparsity of the language that matches.
    """
    data = average(rounds, ["study", *STUDY, "split", "metric", "higher_is_better", "target", "sparsity"])
    data = data.rename(columns={"target": "language"})
    records = material.records
    apart = records[(records["variant"] == "dense") & records["kind"].isin(["dense", "transfer"])]
    dense = {
        (row["model"], row["task"], row["target"]): Measured.of(row)
        for row in average(apart, ["model", "task", "target"]).to_dict("records")
    }
    first = {
        (row["study"], row["language"]): Measured.of(row) for row in data[data["sparsity"] == 0].to_dict("records")
    }
    held = []
    for row in data.to_dict("records"):
        apart_of_it = dense.get((row["model"], row["task"], row["language"]), Measured(math.nan))
        reference = first.get((row["study"], row["language"]), apart_of_it)
        made = verdict(Measured.of(row), reference, material.metrics[row["study"]], options.tolerance)
        held.append((reference.value, made.tolerance, made.criterion, made.holds))
    for column, values in zip(_HELD, zip(*held, strict=True), strict=True):
        data[column] = pd.Series(values, data.index, object if column == "matches" else None)
    best = (
        data[data["matches"].eq(True) & (data["sparsity"] > 0)]
        .groupby(["study", "language"])["sparsity"]
        .max()
        .to_dict()
    )
    places = zip(data["study"], data["language"], data["sparsity"], strict=True)
    data["best"] = [best.get((study, language)) == sparsity for study, language, sparsity in places]
    return data


def _line(language: str, rows: pd.DataFrame, metric: MainMetric) -> Line:
    points, ranges, rings = [], {}, set()
    for row in rows.sort_values("sparsity").to_dict("records"):
        x = round(100 * row["sparsity"], 4)
        points.append((x, scale(metric) * row["value"]))
        if row["runs"] > 1:
            ranges[x] = (scale(metric) * row["lowest"], scale(metric) * row["highest"])
        if row["best"]:
            rings.add(x)
    dense = float(rows["dense"].iloc[0])
    level = scale(metric) * dense if math.isfinite(dense) else None
    return Line(language, points, ranges, frozenset(rings), level)


def _levels(rows: pd.DataFrame) -> str:
    """The best sparsities with their languages; empty without a language that has a verdict on a pruned model."""
    known = rows[rows["matches"].notna() & (rows["sparsity"] > 0)]
    languages: dict[float, list[str]] = {}
    for language, group in known.groupby("language"):
        languages.setdefault(float(group["sparsity"].where(group["best"], 0).max()), []).append(str(language))
    parts = [
        f"{sparsity_name(level) if level else 'none'} ({listed(codes)})"
        for level, codes in sorted(languages.items(), reverse=True)
    ]
    return listed(parts)
