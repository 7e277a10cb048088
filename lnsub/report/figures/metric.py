"""The metric against sparsity, and the best sparsity that still matches the dense model."""

import math

import pandas as pd

from lnsub.analysis.transfer_cells import average
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

TITLE = "Metric against sparsity"


def metric_by_sparsity(material: Material, options: Options) -> Figure | Missing:
    """The metric of each round of pruning, a line a language, with the best sparsity that still matches dense."""
    rounds = material.records[material.records["kind"] == "imp"]
    if rounds.empty:
        return Missing(
            TITLE, "there are no records of pruning rounds (kind imp); `lnsub fit` with IMPCallback makes them"
        )
    data = metric_data(rounds, material.records, options)
    panels, leads, findings = [], [], []
    for study, rows in by_study(data, material.studies):
        lines = [_line(str(language), group, material) for language, group in rows.groupby("language")]
        name = metric_name(str(rows["metric"].iloc[0]))
        label = f"{study}: {name} against sparsity, a line for each of {len(lines)} languages"
        panels.append(Panel(study, line_plot(lines, label=label, x_label="sparsity, %", y_label=f"{name}, %")))
        best = _best(rows)
        leads += [f"{study} {_range(list(best.values()))}"] if best else []
        findings += [_matching(study, rows, best)] if best else []
    entries = [(swatch(material.style(code)), html_label(code)) for code in sorted(set(data["language"]))]
    if data["dense"].notna().any():
        entries.append((swatch(6, "level"), "dense model, in the language's colour"))
    entries += [(swatch(0, "ring"), "highest sparsity that matches it")] if data["best"].any() else []
    reading = (
        "Each point is one round: a model fine-tuned from its pre-trained weights under the mask of that sparsity and "
        "measured on its own language. The dotted line is the dense model. A point matches it when it is no further "
        f"below than {_words(options)}; the ring marks the highest sparsity that does."
    )
    runs = int(data["runs"].max())
    if runs > 1:
        reading += f" Points are means over up to {runs} runs, strokes reach from the lowest to the highest."
    lead = f"The highest sparsity that still matches the dense model, by language: {'; '.join(leads)}." if leads else ""
    return Figure("metric_by_sparsity", TITLE, reading, tuple(panels), key(entries), data, lead, tuple(findings))


def metric_data(rounds: pd.DataFrame, records: pd.DataFrame, options: Options) -> pd.DataFrame:
    """The rounds of pruning averaged over runs, each held against the dense model.

    Args:
        rounds: records of kind ``imp``, of main metrics.
        records: any records; a dense model trained apart stands in where a language has no round at sparsity 0.
        options: the tolerance.

    Returns:
        A row a study, language and sparsity: what :func:`average` gives, ``dense`` (NaN where unknown),
        ``tolerance``, ``matches``, and ``best``: the highest sparsity of the language that matches.
    """
    data = average(rounds, ["study", *STUDY, "split", "metric", "target", "sparsity"])
    data = data.rename(columns={"target": "language"})
    first = data[data["sparsity"] == 0].set_index(["study", "language"])["value"].to_dict()
    dense = records[(records["variant"] == "dense") & records["kind"].isin(["dense", "transfer"])]
    apart = dense.groupby(["model", "task", "target"])["value"].mean().to_dict()
    rows = data.to_dict("records")
    data["dense"] = [
        first.get((row["study"], row["language"]), apart.get((row["model"], row["task"], row["language"]), math.nan))
        for row in rows
    ]
    data["tolerance"] = [_tolerance(p, n, options) for p, n in zip(data["dense"], data["n"], strict=True)]
    # A hair more, as the difference of two decimal fractions is not exact.
    data["matches"] = data["value"] >= data["dense"] - data["tolerance"] - 1e-12
    best = data[data["matches"] & (data["sparsity"] > 0)].groupby(["study", "language"])["sparsity"].max().to_dict()
    data["best"] = [best.get((row["study"], row["language"])) == row["sparsity"] for row in rows]
    return data


def _tolerance(dense: float, n: int, options: Options) -> float:
    if options.tolerance is not None:
        return options.tolerance
    return math.sqrt(max(dense * (1 - dense), 0.0) / max(n, 1)) if math.isfinite(dense) else math.nan


def _words(options: Options) -> str:
    if options.tolerance is not None:
        return f"{100 * options.tolerance:g} points"
    return "one standard error of the dense value p, √(p (1 - p) / n) for the n examples measured"


def _line(language: str, rows: pd.DataFrame, material: Material) -> Line:
    points, ranges, rings = [], {}, set()
    for row in rows.sort_values("sparsity").to_dict("records"):
        x = round(100 * row["sparsity"], 4)
        points.append((x, 100 * row["value"]))
        if row["runs"] > 1:
            ranges[x] = (100 * row["lowest"], 100 * row["highest"])
        if row["best"]:
            rings.add(x)
    dense = float(rows["dense"].iloc[0])
    level = 100 * dense if math.isfinite(dense) else None
    return Line(language, material.style(language), points, ranges, frozenset(rings), level)


def _best(rows: pd.DataFrame) -> dict[str, float]:
    """The best sparsity of each language, 0 for none; of languages with a dense model and a pruned one."""
    known = rows[rows["dense"].notna() & (rows["sparsity"] > 0)]
    return {
        str(language): float(group.loc[group["best"], "sparsity"].max() if group["best"].any() else 0)
        for language, group in known.groupby("language")
    }


def _level(sparsity: float) -> str:
    return sparsity_name(sparsity) if sparsity else "none"


def _range(levels: list[float]) -> str:
    return " to ".join(dict.fromkeys((_level(min(levels)), _level(max(levels)))))


def _matching(study: str, rows: pd.DataFrame, best: dict[str, float]) -> str:
    """Up to which sparsity each language's tickets match the dense model, in words."""
    tried = rows.loc[rows["sparsity"] > 0, "sparsity"]
    if not any(best.values()):
        return f"{study}: no ticket matches the dense model, not even at {sparsity_name(float(tried.min()))} sparsity."
    levels: dict[float, list[str]] = {}
    for language, level in best.items():
        levels.setdefault(level, []).append(language)
    parts = [
        f"up to {sparsity_name(level)} on {listed(codes)}" if level else f"at no sparsity on {listed(codes)}"
        for level, codes in sorted(levels.items(), reverse=True)
    ]
    tail = ", the highest that was tried" if set(levels) == {float(tried.max())} else ""
    return f"{study}: tickets match the dense model {listed(parts)}{tail}."
