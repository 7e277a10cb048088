"""Mixtures of languages: their tickets beside those of their parts, and each language of a mixture on its own.

The first is table 1 of Foroutan et al. (2022).
"""

import pandas as pd

from lnsub.analysis.mixtures import OWN, beats_parts, mixture_data
from lnsub.analysis.transfer_cells import average, in_order
from lnsub.charts.bars import Row, dot_rows
from lnsub.charts.lines import Line, line_plot
from lnsub.report.collect import STUDY, Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_panel, by_study, sparsity_name
from lnsub.report.figures.transfer import cells_of
from lnsub.report.languages import label, labels
from lnsub.report.metric_text import decimals, named, scale, with_unit
from lnsub.report.spread import NO_INTERVAL, seeds_of

TITLE = "Mixtures of languages"
PARTS_TITLE = "Mixtures, language by language"


def mixture_figure(material: Material, options: Options) -> Figure | Missing:
    """What a mixture's ticket reaches on the languages that are none of its own, beside its parts' tickets."""
    data = mixture_data(cells_of(material, tolerance=options.tolerance))
    if data.empty:
        return Missing(
            TITLE,
            "there are no transfer records, on further languages, of a mixture's ticket (that of en+fa, say) "
            "and of its languages' own tickets",
        )
    panels, leads = [], []
    for study, sparsity, found in by_panel(data, material.studies, options):
        metric = material.metrics[study]
        for mixture, rows in found.groupby("mixture"):
            place = f"{study}, {label(str(mixture))}, {sparsity_name(sparsity)} pruned"
            drawn = [
                Row(
                    "own ticket" if source == OWN else label(source),
                    [(t, scale(metric) * value) for t, value in zip(part["target"], part["value"], strict=True)],
                )
                for source in [*in_order(set(rows["source"]) - {OWN}), OWN]
                if len(part := rows[rows["source"] == source])
            ]
            text = f"{place}: {named(metric)} by source"
            drawing = dot_rows(
                drawn,
                label=text,
                x_label=with_unit(metric),
                order=material.order,
                names=labels(rows["target"]),
                decimals=decimals(metric),
            )
            panels.append(Panel(place, drawing, study, sparsity, str(mixture)))
            best = beats_parts(rows)
            leads.append(
                (study, sparsity, f"{mixture} beats each of its languages on {sum(best)} of {len(best)} targets")
            )
    reading = (
        "A marker for each target language, none of them a part of the mixture; a stroke at their mean, which is no "
        "interval. The mixture's ticket was found on examples of all its languages, the others on one; own ticket: "
        "found on the target itself. All have the same sparsity and were fine-tuned on the target."
    )
    records = material.records
    cells = records[(records["kind"] == "transfer") & records["source"].isin([*data["mixture"], *data["source"]])]
    seeds = seeds_of(material, cells)
    return Figure("mixtures", TITLE, reading, seeds, tuple(panels), data, f"Tickets of mixtures: {by_level(leads)}.")


def mixture_parts_figure(material: Material, options: Options) -> Figure | Missing:
    """The rounds of pruning on a mixture, measured on each of its languages."""
    data = mixture_parts_data(material.parts)
    if data.empty:
        return Missing(
            PARTS_TITLE,
            "there are no records of pruning on a mixture (kind part); `lnsub fit` on en+fa, say, makes them",
        )
    panels = []
    for study, rows in by_study(data, material.studies):
        metric = material.metrics[study]
        for mixture, of_mixture in rows.groupby("mixture"):
            place = f"{study}, {label(str(mixture))}"
            lines = [
                Line(
                    str(language),
                    [
                        (round(100 * sparsity, 4), scale(metric) * value)
                        for sparsity, value in zip(of_part["sparsity"], of_part["value"], strict=True)
                    ],
                )
                for language, of_part in of_mixture.groupby("language")
            ]
            text = f"{place}: {named(metric)} against sparsity, a line for each of {len(lines)} languages"
            drawing = line_plot(
                lines,
                label=text,
                x_label="sparsity, %",
                y_label=with_unit(metric),
                order=material.order,
                names=labels(line.name for line in lines),
                decimals=decimals(metric),
                languages=True,
            )
            panels.append(Panel(place, drawing, study, part=str(mixture)))
    reading = (
        "Each point is one round of pruning on all languages of the mixture together, measured on the validation rows "
        f"of one of them, as for that language alone. Means over runs. {NO_INTERVAL}"
    )
    parts = material.parts[material.parts["round"].notna()]
    seeds = seeds_of(material, parts)
    return Figure("mixture_parts", PARTS_TITLE, reading, seeds, tuple(panels), data, "")


def mixture_parts_data(parts: pd.DataFrame) -> pd.DataFrame:
    """The rounds of pruning on mixtures, by language and averaged over runs.

    Args:
        parts: of :attr:`lnsub.report.collect.Material.parts`; transfers to mixtures are ignored.

    Returns:
        A row a study, mixture, language and sparsity, sorted, with what
        :func:`~lnsub.analysis.transfer_cells.average` gives.
    """
    if parts.empty:
        return pd.DataFrame()
    rounds = parts[parts["round"].notna() & (parts["source"] == parts["trained_on"])]
    if rounds.empty:
        return pd.DataFrame()
    by = ["study", *STUDY, "split", "metric", "trained_on", "target", "sparsity"]
    return average(rounds, by).rename(columns={"trained_on": "mixture", "target": "language"})
