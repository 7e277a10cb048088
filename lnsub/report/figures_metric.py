"""Figures of how well sub-networks do: the metric against sparsity, and tickets beside baselines."""

import math

import pandas as pd

from lnsub.report.bars import Row, dot_rows
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    joined,
    listed,
    metric_name,
    nearest,
    percent,
    sparsity_name,
)
from lnsub.report.languages import html_label
from lnsub.report.plots import Line, key, line_plot, plain_key, swatch

BASELINES: dict[str, str] = {
    "dense": "dense model",
    "own": "own ticket",
    "others": "others' tickets",
    "other task": "other task's",
    "inherited": "inherited mask",
    "oneshot": "one-shot mask",
    "shuffled": "shuffled ticket",
    "random": "random mask",
    "reinit": "re-initialised",
}
"""Kinds of sub-networks in the order in which they are shown, by variant."""


def metric_by_sparsity(material: Material, options: Options) -> Figure | Missing:
    """The metric of each round of pruning, a line a language, with the best sparsity that still matches dense."""
    title = "Metric against sparsity"
    rounds = material.records[material.records["kind"] == "imp"]
    if rounds.empty:
        return Missing(title, "there are no records of pruning rounds (kind imp); `lnsub fit` with IMPCallback makes them")
    data = metric_data(rounds, material, options)
    panels, findings = [], []
    for study, rows in _by_study(data, material):
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


def baseline_figure(material: Material, options: Options) -> Figure | Missing:
    """Tickets beside the dense model, random, shuffled and one-shot masks, and re-initialised weights."""
    title = "Tickets and baselines"
    data = baseline_data(material)
    bases = set(data["variant"]) - {"own", "others"} if not data.empty else set()
    if not bases - {"dense"}:
        return Missing(
            title,
            "there are no transfer records of baselines (random, shuffled or one-shot masks, re-initialised weights); "
            "`lnsub transfer` makes them",
        )
    panels, findings = [], []
    for study, of_study in _by_study(data, material):
        masked = of_study[of_study["variant"] != "dense"]
        for sparsity in nearest(masked.loc[masked["variant"] != "others", "sparsity"], options.sparsities):
            rows = of_study[(of_study["sparsity"] == sparsity) | (of_study["variant"] == "dense")]
            name = metric_name(str(rows["metric"].iloc[0]))
            drawn = [_dots(label, rows[rows["variant"] == v], material) for v, label in BASELINES.items()]
            label = f"{study} at {sparsity_name(sparsity)} sparsity: {name} of tickets and baselines"
            svg = dot_rows([row for row in drawn if row.dots], label=label, x_label=f"{name}, %")
            panels.append(Panel(f"{study}, {sparsity_name(sparsity)} pruned", svg))
            findings.append(_beside(study, sparsity, rows))
    if not panels:
        return Missing(title, "the baselines' sparsities are not those of any ticket")
    languages = sorted(set(data["target"]))
    entries = [(swatch(material.style(code), "mark"), html_label(code)) for code in languages]
    reading = (
        "A marker for each target language, a stroke at their mean. Own ticket: found on the target itself; others' "
        "tickets: the mean over tickets of other languages. All have the same sparsity and were fine-tuned alike; a "
        "shuffled ticket keeps each layer's density but other places, a re-initialised one its places but weights drawn "
        "anew."
    )
    return Figure(
        "baselines", title, reading, tuple(panels), key(entries), data, tuple(finding for finding in findings if finding)
    )


def baseline_data(material: Material) -> pd.DataFrame:
    """What each kind of sub-network reaches on each target, averaged over sources and seeds.

    Returns:
        A row a study, sparsity, variant (a key of :data:`BASELINES`) and target: ``value``, and ``records``, how many.
        The dense model stands at sparsity 0, and is the first round of pruning where it was not trained apart.
    """
    records = material.records
    found = []
    for study in material.studies:
        inside = records[(records["study"] == study) & (records["variant"] == "ticket")]
        if inside.empty:
            continue
        model, task = inside["model"].iloc[0], inside["task"].iloc[0]
        near = records[(records["model"] == model) & (records["task"] == task)]
        cells = inside[inside["kind"] == "transfer"]
        baselines = near[(near["kind"].isin(["transfer", "dense"])) & near["variant"].isin(list(BASELINES))].copy()
        baselines.loc[baselines["variant"] == "dense", "sparsity"] = 0.0
        rounds = inside[(inside["kind"] == "imp") & (inside["sparsity"] == 0)].assign(variant="dense")
        parts = [
            cells[cells["source"] == cells["target"]].assign(variant="own"),
            cells[cells["source"] != cells["target"]].assign(variant="others"),
            baselines,
        ]
        if not (baselines["variant"] == "dense").any():
            parts.append(rounds)
        together = joined(parts)
        if together.empty:
            continue
        by = ["metric", "sparsity", "variant", "target"]
        means = together.groupby(by).agg(value=("value", "mean"), records=("value", "size")).reset_index()
        found.append(means.assign(study=study, model=model, task=task))
    return joined(found)


def _dots(label: str, rows: pd.DataFrame, material: Material) -> Row:
    dots = [
        (100 * row.value, material.style(row.target), f"{label}, {row.target}: {100 * row.value:.1f}")
        for row in rows.sort_values("target").itertuples()
    ]
    return Row(label, dots, 100 * float(rows["value"].mean()) if dots else 0.0)


def _beside(study: str, sparsity: float, rows: pd.DataFrame) -> str:
    means = {variant: percent(float(group["value"].mean())) for variant, group in rows.groupby("variant")}
    tickets = [f"{means[v]} with {what}" for v, what in (("own", "own tickets"), ("others", "others'")) if v in means]
    rest = {"dense": "the dense model", "random": "random masks", "shuffled": "shuffled tickets"}
    rest |= {"oneshot": "one-shot masks", "inherited": "inherited masks", "reinit": "re-initialised weights"}
    others = [f"{means[variant]} with {what}" for variant, what in rest.items() if variant in means]
    if not tickets or not others:
        return ""
    name = metric_name(str(rows["metric"].iloc[0]))
    return f"{study} at {sparsity_name(sparsity)}: mean {name} {listed(tickets)}, against {listed(others)}."


def _by_study(data: pd.DataFrame, material: Material) -> list[tuple[str, pd.DataFrame]]:
    return [(study, data[data["study"] == study]) for study in material.studies if (data["study"] == study).any()]


__all__ = ["BASELINES", "baseline_data", "baseline_figure", "metric_by_sparsity", "metric_data", "plain_key"]
