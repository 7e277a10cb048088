"""Figures of transfer: source by target, and the relative drop of each source."""

from collections.abc import Iterable

import pandas as pd

from lnsub.analysis.criteria import judged, successes
from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.many_comparisons import Place
from lnsub.analysis.transfer_cells import in_order, relative_drop, transfer_cells
from lnsub.charts.bars import bar_groups
from lnsub.charts.drawing import Drawing
from lnsub.charts.heat import Shading, heat_map
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    by_level,
    by_panel,
    by_study,
    nearest,
    percent,
    pruned_name,
    sparsity_name,
)
from lnsub.report.figures.marks import mark_words, transfer_tests, with_tests
from lnsub.report.languages import labels
from lnsub.report.metric_text import (
    change_unit,
    decimals,
    named,
    scale,
    tolerance_words,
    unjudged_words,
    with_unit,
    written_change,
)
from lnsub.report.spread import NO_INTERVAL, seeds_of

TITLE = "Transfer: source by target"
COLOURS = "The better, the stronger the colour on the left; on the right blue is better and orange worse."


def cells_of(material: Material, kind: str = "transfer", tolerance: float | None = None) -> pd.DataFrame:
    """The transfer cells of tickets with ``study`` and what :func:`lnsub.analysis.criteria.judged` says of them."""
    records = material.records
    cells = transfer_cells(records[records["variant"] == "ticket"], kind)
    metrics = {
        task: material.metrics[study]
        for task, study in records[["task", "study"]].drop_duplicates().itertuples(index=False)
        if study in material.metrics
    }
    cells = judged(cells, metrics, tolerance, published=bool(material.about))
    names = records[["study", *STUDY]].drop_duplicates(list(STUDY))
    return cells.merge(names, on=list(STUDY), how="left")


def transfer_figure(material: Material, options: Options) -> Figure | Missing:
    """Each ticket fine-tuned on each language."""
    reading = (
        "Left: the metric of the source's ticket fine-tuned on the target. Right: its difference to the target's own "
        "ticket (the diagonal on the left) at the same sparsity."
    )
    return _matrices(material, options, "transfer", TITLE, reading, "`lnsub transfer` makes them")


def zero_shot_figure(material: Material, options: Options) -> Figure | Missing:
    """Each ticket fine-tuned on its own language and evaluated on each."""
    reading = (
        "Each ticket was fine-tuned on its source alone and then evaluated on every target. Left: the metric. Right: "
        "its difference to the target's own ticket, fine-tuned on the target."
    )
    title = f"Zero-shot {TITLE.lower()}"
    return _matrices(material, options, "zero_shot", title, reading, "`lnsub transfer --zero-shot` makes them")


def _matrices(
    material: Material, options: Options, kind: str, title: str, reading: str, makes: str
) -> Figure | Missing:
    cells = cells_of(material, kind, options.tolerance)
    if (cells["source"] == cells["target"]).all():
        return Missing(title, f"there are no records of tickets on other languages (kind {kind}); {makes}")
    parts = by_panel(cells, material.studies, options)
    if not parts:
        return Missing(title, "the tickets with such records prune nothing, or are of no study")
    tests = transfer_tests(material, kind)
    cells = with_tests(cells, tests)
    # Values of different tasks are not comparable, changes of one unit are.
    absolute, changes = {}, dict[str, list[float]]()
    for study, rows in by_study(pd.concat([rows for _, _, rows in parts]), material.studies):
        metric = material.metrics[study]
        absolute[study] = _shading(metric, rows["value"])
        changes.setdefault(change_unit(metric), []).extend(rows["change"].dropna())
    units = {change_unit(material.metrics[study]): material.metrics[study] for study in absolute}
    signed = {unit: _shading(metric, changes[unit], signed=True) for unit, metric in units.items() if changes[unit]}
    panels, leads = [], []
    for study, sparsity, rows in parts:
        place, metric = f"{study}, {sparsity_name(sparsity)} pruned", material.metrics[study]
        label = f"{place}: {named(metric)}, source by target"
        marked = tests[study, sparsity].marked if (study, sparsity) in tests else frozenset[Place]()
        drawing = _square(rows, "value", metric, absolute[study], label, with_unit(metric), marked)
        panels.append(Panel(f"{place}: {with_unit(metric)}", drawing, study, sparsity, group=place))
        others = rows[rows["abroad"] & rows["change"].notna()]
        if others.empty:
            continue
        unit = change_unit(metric)
        label = f"{place}: change of {named(metric)} against the target's own ticket"
        drawing = _square(others, "change", metric, signed[unit], label, f"change, {unit}", marked)
        panels.append(Panel(f"{place}: change, {unit}", drawing, study, sparsity, "change", group=place))
        mean = written_change(metric, float(others["change"].mean()))
        told = [
            f" ({row.successful} of {row.transfers} successful)" for row in successes(others, ["study"]).itertuples()
        ]
        leads.append((study, sparsity, f"{mean}{''.join(told)}"))
    runs = int(cells["runs"].max())
    reading += f" Cells are means over up to {runs} runs." if runs > 1 else ""
    lead = f"Mean change against the target's own ticket: {by_level(leads)}." if leads else ""
    allowed = cells.loc[cells["abroad"] & cells["own"].notna(), "criterion"]
    reading += f" {COLOURS}{mark_words([part[:2] for part in parts], tests, 'source and target')}"
    if words := tolerance_words(allowed, material.metrics.values(), options.tolerance):
        reading += f" A transfer is successful where it falls short of the target's own ticket by no more than {words}."
    reading += unjudged_words(allowed)
    if not signed:
        reading += " No target's own ticket was measured, so that there is no change to draw."
    records = material.records
    drawn = records[(records["kind"] == kind) & (records["variant"] == "ticket")]
    seeds = seeds_of(material, drawn, ("source", "target", "sparsity"))
    return Figure(kind, title, f"{reading} {NO_INTERVAL}", seeds, tuple(panels), cells, lead)


def _shading(metric: MainMetric, values: Iterable[float], signed: bool = False) -> Shading:
    shown = [scale(metric) * value for value in values]
    return Shading.of(shown, signed, decimals(metric), falling=not metric.higher_is_better)


def _square(
    rows: pd.DataFrame,
    column: str,
    metric: MainMetric,
    shading: Shading,
    label: str,
    unit: str,
    marked: frozenset[Place],
) -> Drawing:
    places = zip(rows["source"], rows["target"], strict=True)
    return heat_map(
        {place: scale(metric) * value for place, value in zip(places, rows[column], strict=True)},
        in_order(rows["source"]),
        in_order(rows["target"]),
        shading,
        label=label,
        unit=unit,
        row_title="source",
        column_title="target",
        names=labels(rows["source"]),
        marked=marked,
    )


def drop_figure(material: Material, options: Options) -> Figure | Missing:
    """The relative drop of each source language, as on the poster of Foroutan et al. (2022)."""
    title = "Relative drop by source language"
    cells = cells_of(material)
    drops = relative_drop(cells)
    if drops.empty:
        return Missing(title, "it takes transfer records of a ticket on other languages and of their own tickets")
    drops = drops.merge(cells[["study", *STUDY]].drop_duplicates(), on=list(STUDY), how="left")
    # A colour stands for one sparsity in all panels.
    levels = sorted({s for _, rows in by_study(drops, material.studies) for s in _chosen(rows, options)})
    panels, leads = [], []
    for study, rows in by_study(drops, material.studies):
        metric = material.metrics[study]
        chosen = rows[rows["sparsity"].isin(_chosen(rows, options))]
        groups = {
            str(source): {
                pruned_name(sparsity): 100 * drop
                for sparsity, drop in zip(group["sparsity"], group["drop"], strict=True)
            }
            for source, group in ((source, chosen[chosen["source"] == source]) for source in in_order(chosen["source"]))
        }
        drawing = bar_groups(
            groups,
            label=f"{study}: relative drop of {named(metric)} by source language",
            x_label=f"relative drop of {named(metric)}, %",
            order=[pruned_name(s) for s in levels],
            names=labels(groups),
            levels=True,
        )
        panels.append(Panel(study, drawing, study))
        for sparsity in sorted(set(chosen["sparsity"])):
            of_it = chosen[chosen["sparsity"] == sparsity]
            single = of_it[~of_it["source"].str.contains("+", regex=False)]
            of_it = of_it if single.empty else single
            gains = metric.sign * of_it.set_index("source")["drop"]
            text = percent(float(of_it["drop"].mean()))
            if len(gains) > 1:
                text += f" (best {gains.idxmax()}, worst {gains.idxmin()})"
            leads.append((study, sparsity, text))
    reading = (
        "A source's tickets on other languages, held against those languages' own tickets: the mean over targets t "
        "other than the source s of (m(s,t) - m(t,t)) / m(t,t); for a mixture, over targets that are none of its "
        "languages. Below zero the source's tickets are worse; of a metric that is better when lower, above zero. "
        "Means over sources leave mixtures out."
    )
    gaps = int((drops["missing"] != "").sum())
    if gaps:
        reading += (
            f" {gaps} of {len(drops)} values are over fewer targets than there are, as cells are missing: see CSV."
        )
    records = material.records
    seeds = seeds_of(material, records[(records["kind"] == "transfer") & (records["variant"] == "ticket")])
    lead = f"Mean relative drop over source languages: {by_level(leads)}."
    return Figure("relative_drop", title, f"{reading} {NO_INTERVAL}", seeds, tuple(panels), drops, lead)


def _chosen(rows: pd.DataFrame, options: Options) -> list[float]:
    return nearest(rows["sparsity"], options.sparsities)
