"""The metric against sparsity, and the best sparsity that still matches the dense model."""

import math

import pandas as pd

from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    by_study,
    listed,
    metric_name,
    sparsity_name,
)
from lnsub.report.languages import html_label
from lnsub.report.plots import Line, key, line_plot, swatch

def metric_by_sparsity(material: Material, options: Options) -> Figure | Missing:
    """The metric of each round of pruning, a line a language, with the best sparsity that still matches dense."""
    title = "Metric against sparsity"
    rounds = material.records[material.records["kind"] == "imp"]
    if rounds.empty:
        return Missing(title, "there are no records of pruning rounds (kind imp); `lnsub fit` with IMPCallback makes them")
    data = metric_data(rounds, material, options)
    panels, findings = [], []
    for study, rows in by_study(data, material.studies):
        lines = [_language_line(str(language), group, material) for language, group in rows.groupby("language")]
        name = metric_name(str(rows["metric"].iloc[0]))
        label = f"{study}: {name} against sparsity, a line for each of {len(lines)} languages"
        svg = line_plot(lines, label=label, x_label="sparsity, %", y_label=f"{name}, %")
        panels.append(Panel(study, svg))
        findings.append(_matching(study, rows))
    drawn = sorted(set(data["language"]))
    entries = [(swatch(material.style(code)), html_label(code)) for code in drawn]
    entries += [
        (swatch(6, "level"), "dense, in the language’s colour"),
        (swatch(0, "ring"), "highest sparsity that matches dense"),
    ]
    several = int(data["seeds"].max())
    reading = (
        "Each point is one round: a model fine-tuned from its pre-trained weights under the mask of that sparsity, "
        "measured on its own language. The dotted line is the dense model (sparsity 0). A point matches dense when it is "
        f"no further below it than {_tolerance_words(options)}; the ring marks the highest sparsity that does."
    )
    if several > 1:
        reading += f" Points are means over up to {several} seeds, strokes reach from the lowest to the highest seed."
    return Figure(
        "metric_by_sparsity", title, reading, tuple(panels), key(entries), data, tuple(f for f in findings if f)
    )


def metric_data(rounds: pd.DataFrame, material: Material, options: Options) -> pd.DataFrame:
    """The rounds of pruning averaged over seeds, each held against the dense model.

    Args:
        rounds: records of kind ``imp``, of main metrics.
        material: for ``dense`` records, where the rounds lack one at sparsity 0.
        options: the tolerance.

    Returns:
        A row a study, language and sparsity: ``value``, ``lowest`` and ``highest`` seed, ``seeds``, ``n``, ``dense``,
        ``tolerance``, ``matches`` and ``best`` (the highest sparsity of the language that matches).
    """
    by = ["study", *STUDY, "metric", "target", "sparsity"]
    seeds = rounds.groupby([*by, "seed"], dropna=False).agg(value=("value", "mean"), n=("n", "max")).reset_index()
    data = (
        seeds.groupby(by, dropna=False)
        .agg(
            value=("value", "mean"),
            lowest=("value", "min"),
            highest=("value", "max"),
            seeds=("seed", "nunique"),
            n=("n", "max"),
        )
        .reset_index()
        .rename(columns={"target": "language"})
    )
    dense = {
        (row.study, row.language): row.value for row in data.itertuples() if row.sparsity == 0
    }  # fmt: skip
    apart = material.records[(material.records["kind"] == "dense")]
    alone = apart.groupby(["model", "task", "target"])["value"].mean().to_dict()
    data["dense"] = [
        dense.get((row.study, row.language), alone.get((row.model, row.task, row.language), float("nan")))
        for row in data.itertuples()
    ]
    data["tolerance"] = [_tolerance(row.dense, row.n, options) for row in data.itertuples()]
    # A hair more, for values that are written with few digits.
    data["matches"] = data["value"] >= data["dense"] - data["tolerance"] - 1e-12
    matching = data[data["matches"] & (data["sparsity"] > 0)]
    best = matching.groupby(["study", "language"])["sparsity"].max().to_dict()
    data["best"] = [best.get((row.study, row.language), float("nan")) == row.sparsity for row in data.itertuples()]
    return data


def _tolerance(dense: float, n: int, options: Options) -> float:
    if options.tolerance is not None:
        return options.tolerance
    return math.sqrt(max(dense * (1 - dense), 0.0) / max(n, 1)) if dense == dense else float("nan")


def _tolerance_words(options: Options) -> str:
    if options.tolerance is not None:
        return f"{100 * options.tolerance:g} points"
    return "one standard error of the dense value p, √(p (1 − p) / n) over the n examples measured"


def _language_line(language: str, rows: pd.DataFrame, material: Material) -> Line:
    rows = rows.sort_values("sparsity")
    x = [round(100 * s, 4) for s in rows["sparsity"]]
    spread = zip(x, rows["lowest"], rows["highest"], rows["seeds"], strict=True)
    dense = rows["dense"].iloc[0]
    return Line(
        name=language,
        style=material.style(language),
        points=[(s, 100 * v) for s, v in zip(x, rows["value"], strict=True)],
        ranges={s: (100 * low, 100 * high) for s, low, high, seeds in spread if seeds > 1},
        rings=frozenset(s for s, best in zip(x, rows["best"], strict=True) if best),
        level=100 * dense if dense == dense else None,
    )


def _matching(study: str, rows: pd.DataFrame) -> str:
    """Up to which sparsity tickets match the dense model, in words."""
    languages = sorted(set(rows["language"]))
    pruned = rows[rows["sparsity"] > 0]
    if pruned.empty or rows["dense"].isna().all():
        return ""
    best = dict(rows.loc[rows["best"], ["language", "sparsity"]].itertuples(index=False, name=None))
    levels: dict[float, list[str]] = {}
    for language in languages:
        levels.setdefault(best.get(language, 0.0), []).append(language)
    top = float(pruned["sparsity"].max())
    if set(levels) == {0.0}:
        least = float(pruned["sparsity"].min())
        return f"{study}: no ticket matches the dense model, not even at {sparsity_name(least)} sparsity."
    parts = [
        f"up to {sparsity_name(level)} on {listed(codes)}" if level else f"at no sparsity on {listed(codes)}"
        for level, codes in sorted(levels.items(), reverse=True)
    ]
    text = f"{study}: tickets match the dense model {listed(parts)}"
    return text + (", the highest that was tried." if set(levels) == {top} else ".")
