"""Figures of mean overlap: against sparsity, and by layer."""

import pandas as pd

from lnsub.charts.lines import Line, line_plot
from lnsub.report.collect import Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    by_level,
    by_study,
    extremes,
    nearest,
    percent,
    sparsity_name,
)
from lnsub.report.figures.overlap import NO_TICKETS
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.language_pairs import mean_pairs
from lnsub.report.spread import NO_INTERVAL, seed_words
from lnsub.tickets.parameters import layer_key


def overlap_by_sparsity(material: Material, options: Options) -> Figure | Missing:
    """The mean overlap over pairs of languages, a line a study, with the level that chance gives."""
    title = "Mean overlap against sparsity"
    data = mean_pairs(material.pairs, [])
    if data.empty:
        return Missing(title, NO_TICKETS)
    label = "Mean overlap of tickets of two languages against sparsity"
    lines = _lines(data, material, "sparsity", 100.0)
    drawing = line_plot(lines, label=label, x_label=_X, y_label=_Y, order=material.studies)
    panels = [Panel("All weights together", drawing, part="all")]
    null = "null" in data and bool(data["null"].notna().any())
    if "departure_overlap" in data and data["departure_overlap"].notna().any():
        lines = _lines(data, material, "sparsity", 100.0, "departure_overlap", "null")
        label = "Mean overlap of departures of two languages against sparsity"
        drawing = line_plot(lines, label=label, x_label=_X, y_label=_Y, order=material.studies)
        panels.append(Panel("Departures", drawing, part="departures"))
    reading = "The mean over pairs of languages of their tickets' overlap. Dashed: random masks of the same densities"
    reading += "; for departures, those that are independent given the base model's weights." if null else "."
    return Figure(
        "overlap_by_sparsity",
        title,
        f"{reading} {NO_INTERVAL} The CSV has the lowest and the highest pair.",
        seed_words(material.pairs, ("seed_a", "seed_b")),
        tuple(panels),
        data,
        table=_table(data, material),
    )


_X, _Y = "sparsity, %", "overlap, %"


def overlap_by_layer(material: Material, options: Options) -> Figure | Missing:
    """The mean overlap over pairs of languages by layer, a line a study."""
    title = "Overlap by layer"
    data = mean_pairs(material.layers, ["layer"])
    if data.empty:
        return Missing(title, NO_TICKETS)
    panels, leads = [], []
    for sparsity in nearest(data["sparsity"], options.sparsities):
        rows = data[data["sparsity"] == sparsity].copy()
        layers = sorted(set(rows["layer"]), key=layer_key)
        rows["place"] = rows["layer"].map({layer: float(place) for place, layer in enumerate(layers)})
        lines = _lines(rows, material, "place", 1.0)
        ticks = [(float(place), _short(layer)) for place, layer in enumerate(layers)]
        label = f"Mean overlap by layer at {sparsity_name(sparsity)} sparsity"
        drawing = line_plot(
            lines, label=label, x_label="layer", y_label="overlap, %", order=material.studies, x_ticks=ticks
        )
        panels.append(Panel(f"{sparsity_name(sparsity)} pruned", drawing, sparsity=sparsity))
        for study, part in by_study(rows, material.studies):
            low, _ = extremes(part, "overlap")
            leads.append((study, sparsity, f"{_layer_name(low['layer'])} ({percent(low['overlap'])})"))
    reading = (
        "The mean over pairs of languages of their tickets' overlap inside each layer. Dashed: what chance gives. "
    )
    reading += f"{NO_INTERVAL} The CSV has the lowest and the highest pair."
    seeds = seed_words(material.layers, ("seed_a", "seed_b"))
    lead = f"Tickets of two languages differ most in: {by_level(leads)}."
    return Figure("overlap_by_layer", title, reading, seeds, tuple(panels), data, lead)


def _lines(
    data: pd.DataFrame, material: Material, x: str, scale: float, column: str = "overlap", chance: str = "chance"
) -> list[Line]:
    lines = []
    for study, rows in by_study(data[data[column].notna()], material.studies):
        rows = rows.sort_values(x)
        places = [scale * value for value in rows[x]]
        lines.append(Line(study, list(zip(places, 100 * rows[column], strict=True))))
        if chance in rows and rows[chance].notna().all():
            points = list(zip(places, 100 * rows[chance], strict=True))
            lines.append(Line(study, points, plain="by chance, in the line's colour"))
    return lines


def _table(data: pd.DataFrame, material: Material) -> str:
    """The means as numbers: a row a study, a column a sparsity."""
    sparsities = sorted(set(data["sparsity"]))
    means = {(s, level): v for s, level, v in data[["study", "sparsity", "overlap"]].itertuples(index=False, name=None)}
    body = [
        [study, *(percent(means[study, s]) if (study, s) in means else DASH for s in sparsities)]
        for study, _ in by_study(data, material.studies)
    ]
    return rows_table(["overlap", *map(sparsity_name, sparsities)], body)


def _layer_name(layer: str) -> str:
    if layer.isdigit():
        return f"layer {layer}"
    return layer.replace(".", " layer ", 1) if "." in layer else f"the {layer}"


def _short(layer: str) -> str:
    """A layer on an axis: ``3``, ``d3`` for the decoder's, ``pool``."""
    stack, _, index = layer.partition(".")
    return f"{stack[0]}{index}" if index else "pool" if layer == "pooler" else layer
