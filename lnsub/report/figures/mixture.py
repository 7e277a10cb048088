"""The ticket of a mixture of languages beside those of its parts, as in table 1 of Foroutan et al. (2022)."""

from lnsub.analysis.mixtures import OWN, beats_parts, mixture_data
from lnsub.analysis.transfer_cells import in_order
from lnsub.report.collect import Material
from lnsub.report.drawing.bars import Row, dot_rows
from lnsub.report.drawing.plots import key, swatch
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_panel, sparsity_name
from lnsub.report.figures.transfer import cells_of
from lnsub.report.languages import html_label, label
from lnsub.report.metric_text import decimals, named, scale, with_unit, written

TITLE = "Mixtures of languages"


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
                    [
                        (
                            scale(metric) * value,
                            material.style(target),
                            f"{source} → {target}: {written(metric, value)}",
                        )
                        for target, value in zip(part["target"], part["value"], strict=True)
                    ],
                    scale(metric) * float(part["value"].mean()),
                )
                for source in [*in_order(set(rows["source"]) - {OWN}), OWN]
                if len(part := rows[rows["source"] == source])
            ]
            text = f"{place}: {named(metric)} by source"
            svg = dot_rows(drawn, label=text, x_label=with_unit(metric), decimals=decimals(metric))
            panels.append(Panel(place, svg))
            best = beats_parts(rows)
            leads.append(
                (study, sparsity, f"{mixture} beats each of its languages on {sum(best)} of {len(best)} targets")
            )
    entries = [(swatch(material.style(code), "mark"), html_label(code)) for code in in_order(data["target"])]
    reading = (
        "A marker for each target language, none of them a part of the mixture; a stroke at their mean. The mixture's "
        "ticket was found on examples of all its languages, the others on one; own ticket: found on the target itself. "
        "All have the same sparsity and were fine-tuned on the target."
    )
    return Figure(
        "mixtures", TITLE, reading, tuple(panels), key(entries), data, f"Tickets of mixtures: {by_level(leads)}."
    )
