"""Figures of transfer: source by target, and the relative drop of each source."""

from typing import Any

import pandas as pd

from lnsub.analysis.transfer_cells import relative_drop, transfer_cells
from lnsub.report.axes import number
from lnsub.report.bars import Bar, bar_groups
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    at,
    by_level,
    by_study,
    extremes,
    joined,
    metric_name,
    nearest,
    percent,
    sparsity_name,
)
from lnsub.report.heatmap import Shading, heat_map
from lnsub.report.languages import label as language_label
from lnsub.report.plots import plain_key, swatch


def cells_of(material: Material, kind: str = "transfer") -> pd.DataFrame:
    """The transfer cells of tickets, see :func:`lnsub.analysis.transfer_cells.transfer_cells`, with ``study``."""
    records = material.records
    cells = transfer_cells(records[records["variant"] == "ticket"], kind)
    names = records[["study", *STUDY]].drop_duplicates(list(STUDY))
    return cells.merge(names, on=list(STUDY), how="left")


def transfer_figure(material: Material, options: Options) -> Figure | Missing:
    """Each ticket fine-tuned on each language."""
    reading = (
        "Left: the metric of the source's ticket fine-tuned on the target. Right: by how many points that is above or "
        "below the target's own ticket (the diagonal on the left) at the same sparsity."
    )
    return _matrices(
        material, options, "transfer", "transfer", "Transfer: source by target", reading, "`lnsub transfer` makes them"
    )


def zero_shot_figure(material: Material, options: Options) -> Figure | Missing:
    """Each ticket fine-tuned on its own language and evaluated on each."""
    reading = (
        "Each ticket was fine-tuned on its source alone and then evaluated on every target. Left: the metric. Right: "
        "by how many points that is above or below the target's own ticket, fine-tuned on the target."
    )
    title = "Zero-shot transfer: source by target"
    return _matrices(
        material, options, "zero_shot", "zero_shot", title, reading, "`lnsub transfer --zero-shot` makes them"
    )


def _matrices(
    material: Material, options: Options, kind: str, name: str, title: str, reading: str, makes: str
) -> Figure | Missing:
    cells = cells_of(material, kind)
    if (cells["source"] == cells["target"]).all():
        return Missing(title, f"there are no records of tickets on other languages (kind {kind}); {makes}")
    parts = [
        (study, sparsity, rows[rows["sparsity"] == sparsity])
        for study, rows in by_study(cells, material.studies)
        for sparsity in nearest(rows["sparsity"], options.sparsities)
    ]
    drawn = joined([rows for _, _, rows in parts])
    # Metrics of different tasks are not comparable, changes are.
    absolute = {
        study: Shading.of([100 * v for v in rows["value"]]) for study, rows in by_study(drawn, material.studies)
    }
    signed = Shading.of([100 * v for v in drawn["change"].dropna()], signed=True)
    panels, leads, findings = [], [], []
    for study, sparsity, rows in parts:
        place = f"{study}, {sparsity_name(sparsity)} pruned"
        metric = metric_name(str(rows["metric"].iloc[0]))
        places = list(zip(rows["source"], rows["target"], strict=True))
        values = {place: 100 * v for place, v in zip(places, rows["value"], strict=True)}
        changes = {p: 100 * v for p, v in zip(places, rows["change"], strict=True) if v == v and p[0] != p[1]}
        svg = _square(values, absolute[study], f"{place}: {metric}, source by target")
        panels.append(Panel(f"{place}: {metric}, %", svg, group=place))
        if changes:
            svg = _square(changes, signed, f"{place}: change of {metric} against the target's own ticket")
            panels.append(Panel(f"{place}: change, points", svg, group=place))
            findings.append(_beside_own(study, sparsity, metric, rows, kind))
            mean = number(sum(changes.values()) / len(changes), 1)
            leads.append((study, sparsity, f"{mean} points"))
    keys = "".join(shading.key(f"%: {study}") for study, shading in absolute.items())
    keys += signed.key("points: change") if drawn["change"].notna().any() else ""
    runs = int(cells["runs"].max())
    reading += f" Cells are means over up to {runs} runs." if runs > 1 else ""
    how = "fine-tuned on its source alone" if kind == "zero_shot" else "fine-tuned on the target"
    lead = f"A ticket of another language, {how}, against the target's own, on average: {by_level(leads)}."
    return Figure(name, title, reading, tuple(panels), keys, cells, lead if leads else "", tuple(findings))


def _square(values: dict[tuple[str, str], float], shading: Shading, label: str) -> str:
    return heat_map(
        values,
        sorted({source for source, _ in values}),
        sorted({target for _, target in values}),
        shading,
        label=label,
        axes="source ↓   target →",
        row_label=language_label,
    )


def _beside_own(study: str, sparsity: float, metric: str, rows: pd.DataFrame, kind: str) -> str:
    """How tickets of other languages do beside the target's own, and how sure that is, in words."""
    others = rows[(rows["source"] != rows["target"]) & rows["change"].notna()]
    variance = (others["own"] * (1 - others["own"])).clip(lower=0) / others["n"].clip(lower=1)
    error = float(variance.pow(0.5).mean())
    below = int((others["change"] < -error).sum())
    worst, _ = extremes(others, "change")
    how = ", fine-tuned on the source alone," if kind == "zero_shot" else ""
    return (
        f"{at(study, sparsity)}: of {len(others)} tickets on another language{how} {below} are below the "
        f"target's own by more than one standard error of its {metric} ({number(100 * error, 1)} points); the "
        f"lowest is {worst['source']} → {worst['target']} ({number(100 * worst['change'], 1)} points)."
    )


def drop_figure(material: Material, options: Options) -> Figure | Missing:
    """The relative drop of each source language, as on the poster of Foroutan et al. (2022)."""
    title = "Relative drop by source language"
    cells = cells_of(material)
    drops = relative_drop(cells)
    if drops.empty:
        return Missing(title, "it takes transfer records of a ticket on other languages and of their own tickets")
    drops = drops.merge(cells[["study", *STUDY]].drop_duplicates(), on=list(STUDY), how="left")
    # A shade stands for one sparsity in all panels.
    shades = sorted({s for _, rows in by_study(drops, material.studies) for s in _chosen(rows, options)})
    panels, leads, findings = [], [], []
    for study, rows in by_study(drops, material.studies):
        chosen = _chosen(rows, options)
        metric = metric_name(str(rows["metric"].iloc[0]))
        groups = {
            str(source): [_bar(row, shades) for row in group.sort_values("sparsity").to_dict("records")]
            for source, group in rows[rows["sparsity"].isin(chosen)].groupby("source")
        }
        svg = bar_groups(
            groups,
            label=f"{study}: relative drop of {metric} by source language",
            x_label=f"relative drop of {metric}, %",
            name=language_label,
        )
        panels.append(Panel(study, svg))
        means = [(s, float(rows.loc[rows["sparsity"] == s, "drop"].mean())) for s in chosen]
        leads += [(study, s, percent(mean)) for s, mean in means]
        findings += _drops(study, rows, chosen)
    reading = (
        "What a source's tickets lose on other languages, relative to those languages' own tickets: the mean over "
        "targets t other than the source s of (m(s,t) - m(t,t)) / m(t,t). Below zero, the source's tickets are worse "
        "than the targets' own."
    )
    gaps = int((drops["missing"] != "").sum())
    if gaps:
        reading += (
            f" {gaps} of {len(drops)} values are over fewer targets than there are, as cells are missing: see CSV."
        )
    entries = [(swatch(_shade(s, shades), "block"), f"{sparsity_name(s)} pruned") for s in shades]
    lead = f"Mean relative drop over source languages: {by_level(leads)}."
    return Figure("relative_drop", title, reading, tuple(panels), plain_key(entries), drops, lead, tuple(findings))


def _chosen(rows: pd.DataFrame, options: Options) -> list[float]:
    return nearest(rows["sparsity"], options.sparsities)


def _shade(sparsity: float, shades: list[float]) -> int:
    """The number of a sparsity's shade: the page has four, from pale to deep."""
    return shades.index(sparsity) * 3 // max(len(shades) - 1, 1)


def _bar(row: dict[Any, Any], shades: list[float]) -> Bar:
    title = f"{row['source']}, {100 * row['sparsity']:g} % pruned: {100 * row['drop']:.2f} %, {row['targets']} targets"
    return Bar(100 * row["drop"], _shade(row["sparsity"], shades), title)


def _drops(study: str, rows: pd.DataFrame, chosen: list[float]) -> list[str]:
    """Whether the drop grows with sparsity, and which source is best and worst, in words."""
    found = []
    drops = {s: rows[rows["sparsity"] == s].set_index("source")["drop"] for s in chosen}
    if len(chosen) > 1:
        low, high = drops[chosen[0]], drops[chosen[-1]]
        both = low.index.intersection(high.index)
        larger = int((high[both] < low[both] - 1e-9).sum())  # equal but for rounding is no growth
        found.append(
            f"{study}: from {sparsity_name(chosen[0])} to {sparsity_name(chosen[-1])} the drop grows for {larger} of "
            f"{len(both)} source languages."
        )
    drop = drops[chosen[-1]]
    if len(drop) > 1:
        found.append(
            f"{at(study, chosen[-1])}: {drop.idxmax()} is the best source ({percent(drop.max())}), "
            f"{drop.idxmin()} the worst ({percent(drop.min())})."
        )
    return found
