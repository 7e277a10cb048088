"""Tickets beside the dense model and the baselines."""

from collections.abc import Collection

import pandas as pd

from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.transfer_cells import languages_of
from lnsub.charts.bars import Row, dot_rows
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_panel, joined, sparsity_name
from lnsub.report.languages import labels
from lnsub.report.metric_text import decimals, named, scale, with_unit, written
from lnsub.report.spread import seeds_of
from lnsub.tickets.provenance import start_sparsity

TITLE = "Tickets and baselines"

VARIANTS: dict[str, str] = {
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
"""Kinds of sub-networks in the order in which they are shown, and their names. Masks that were pruned at random from
tickets of lower sparsities (``random_from:0.1``) are shown before random ones, from the sparsest on."""


def baseline_figure(material: Material, options: Options) -> Figure | Missing:
    """Tickets beside the dense model, random, inherited and other masks, and re-initialised weights."""
    data = baseline_data(material)
    if data.empty or not set(data["variant"]) - {"own", "others", "dense"}:
        return Missing(
            TITLE,
            "there are no transfer records of baselines (random, inherited, shuffled or one-shot masks, ...); "
            "`lnsub transfer --baselines` makes them",
        )
    panels, leads = [], []
    baselines = data[~data["variant"].isin(["dense", "own", "others"])]
    for study, sparsity, _ in by_panel(baselines, material.studies, options):
        metric, of_study = material.metrics[study], data[data["study"] == study]
        rows = of_study[(of_study["sparsity"] == sparsity) | (of_study["variant"] == "dense")]
        names = variant_names(set(rows["variant"]))
        drawn = [_row(name, rows[rows["variant"] == variant], metric) for variant, name in names.items()]
        place = f"{study}, {sparsity_name(sparsity)} pruned"
        drawing = dot_rows(
            [row for row in drawn if row.dots],
            label=f"{place}: {named(metric)} of tickets and baselines",
            x_label=with_unit(metric),
            order=material.order,
            names=labels(rows["target"]),
            decimals=decimals(metric),
        )
        panels.append(Panel(place, drawing, study, sparsity))
        means = rows.groupby("variant")["value"].mean()
        if {"own", "random"} <= set(means.index):
            leads.append(
                (study, sparsity, f"{written(metric, means['own'])} against {written(metric, means['random'])}")
            )
    reading = (
        "A marker for each target language, a stroke at their mean, which is no interval. Own ticket: found on the "
        "target itself; others' tickets: the mean over tickets of other languages. All have the same sparsity and "
        "were fine-tuned alike. A mask random from 10 % is the ticket of that sparsity, pruned at random from there; "
        "an inherited mask keeps the largest pre-trained weights. A shuffled ticket keeps each matrix's density but "
        "not its places, a re-initialised one its places but not the pre-trained weights."
    )
    if "random" not in set(data["variant"]):
        reading += " Random masks were not measured, so that nothing is said of how far a ticket is better than chance."
    measured = material.records[material.records["kind"].isin(["transfer", "dense"])]
    seeds = seeds_of(material, measured[measured["target"].isin(data["target"])].assign(study=""))
    lead = f"Own tickets against random masks, mean over targets: {by_level(leads)}." if leads else ""
    return Figure("baselines", TITLE, reading, seeds, tuple(panels), data, lead)


def variant_names(there: Collection[str]) -> dict[str, str]:
    """:data:`VARIANTS` with the masks among ``there`` that were pruned at random from tickets of lower sparsities."""
    starts = {start: variant for variant in there if (start := start_sparsity(variant)) is not None}
    names: dict[str, str] = {}
    for variant, name in VARIANTS.items():
        if variant == "random":
            names |= {starts[s]: f"random from {sparsity_name(s)}" for s in sorted(starts, reverse=True)}
        names[variant] = name
    return names


def baseline_data(material: Material) -> pd.DataFrame:
    """What each kind of sub-network reaches on each target, averaged over sources and runs.

    Returns:
        A row a study, sparsity, variant (a key of :func:`variant_names`) and target: ``value``, and ``records``, how
        many. The dense model stands at sparsity 0; where it was not trained apart, it is the first round of pruning. A
        baseline that owes something to a language is the target's own, where there is that.
    """
    records = material.records
    found = []
    for study in material.studies:
        inside = records[(records["study"] == study) & (records["variant"] == "ticket")]
        cells = inside[inside["kind"] == "transfer"]
        if cells.empty:
            continue
        model, task = cells["model"].iloc[0], cells["task"].iloc[0]
        near = records[(records["model"] == model) & (records["task"] == task)]
        own = cells["source"] == cells["target"]
        places = zip(cells["source"], cells["target"], strict=True)
        others = [languages_of(s).isdisjoint(languages_of(t)) for s, t in places]
        known = list(variant_names(set(near["variant"])))
        baselines = near[near["kind"].isin(["transfer", "dense"]) & near["variant"].isin(known)]
        parts = [cells[own].assign(variant="own"), cells[others].assign(variant="others"), own_first(baselines)]
        if not (baselines["variant"] == "dense").any():
            parts.append(inside[(inside["kind"] == "imp") & (inside["sparsity"] == 0)].assign(variant="dense"))
        groups = joined(parts).groupby(["split", "metric", "higher_is_better", "sparsity", "variant", "target"])
        means = groups.agg(value=("value", "mean"), records=("value", "size")).reset_index()
        found.append(means.assign(study=study, model=model, task=task))
    data = joined(found)
    first = ["study", "model", "task"]
    return data if data.empty else data[[*first, *(column for column in data.columns if column not in first)]]


def own_first(baselines: pd.DataFrame) -> pd.DataFrame:
    """Leaves out a baseline's records of other sources where there is the target's own."""
    own = baselines["source"].isna() | (baselines["source"] == baselines["target"])
    cell = ["variant", "sparsity", "target"]
    there = set(baselines.loc[own, cell].itertuples(index=False, name=None))
    known = [place in there for place in baselines[cell].itertuples(index=False, name=None)]
    return baselines[own | ~pd.Series(known, index=baselines.index, dtype=bool)]


def _row(name: str, rows: pd.DataFrame, metric: MainMetric) -> Row:
    pairs = sorted(zip(rows["target"], rows["value"], strict=True))
    return Row(name, [(str(target), scale(metric) * value) for target, value in pairs])
