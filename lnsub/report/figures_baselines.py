"""Tickets beside the dense model and the baselines."""

import pandas as pd

from lnsub.report.bars import Row, dot_rows
from lnsub.report.collect import Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    by_study,
    joined,
    listed,
    metric_name,
    nearest,
    percent,
    sparsity_name,
)
from lnsub.report.languages import html_label
from lnsub.report.plots import key, swatch

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
    for study, of_study in by_study(data, material.studies):
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
