"""Where pruning took the weights from, and how near languages come to the ceiling that noise allows."""

from typing import Any

from lnsub.charts.heat import Shading, heat_map
from lnsub.charts.text import number
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_panel, extremes, percent, sparsity_name
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.spread import JACKKNIFE, NO_INTERVAL, seed_words
from lnsub.tickets.parameters import KINDS, layer_key

_HEADS = {
    "attention output": "attn.\noutput",
    "intermediate": "inter-\nmediate",
}
# What the headline among the neutrality indices is of.
_OF = {"departure_corrected": "departures above their null", "departure_overlap": "departures", "overlap": "overlap"}


def pruned_where(material: Material, options: Options) -> Figure | Missing:
    """The sparsity of each layer and kind of matrix, averaged over tickets."""
    title = "Where pruning took the weights from"
    if material.densities.empty:
        return Missing(title, "there are no tickets (tickets/*.safetensors)")
    by = ["study", "sparsity", "layer", "kind"]
    groups = material.densities.assign(pruned=1 - material.densities["density"]).groupby(by, sort=False)
    data = groups.agg(
        pruned=("pruned", "mean"), lowest=("pruned", "min"), highest=("pruned", "max"), tickets=("pruned", "size")
    ).reset_index()
    parts = by_panel(data, material.studies, options)
    shading = Shading.of([100 * v for _, _, rows in parts for v in rows["pruned"]])
    panels, leads = [], []
    for study, sparsity, rows in parts:
        places = zip(rows["layer"], rows["kind"], strict=True)
        place = f"{study}, {sparsity_name(sparsity)} pruned in all"
        layers = sorted(set(rows["layer"]), key=layer_key)
        drawing = heat_map(
            {place: 100 * v for place, v in zip(places, rows["pruned"], strict=True)},
            layers,
            sorted(set(rows["kind"]), key=KINDS.index),
            shading,
            label=f"{place}: sparsity by layer and kind of matrix",
            unit="pruned, %",
            row_title="layer",
            column_title="kind of matrix",
            names={layer: _row(layer) for layer in layers},
            heads=_HEADS,
            languages=False,
        )
        panels.append(Panel(f"{place}: sparsity, %", drawing, study, sparsity))
        _, most = extremes(rows, "pruned")
        leads.append((study, sparsity, f"{_matrix(most)} ({percent(most['pruned'])})"))
    reading = (
        "The pruned share of each layer's matrices, a mean over the study's tickets: darker cells (on a dark page, "
        f"brighter ones) lost more of their weights. {NO_INTERVAL} The CSV has the lowest and the highest ticket."
    )
    seeds = seed_words(material.densities, cell=("language",))
    lead = f"Pruning took the largest share from: {by_level(leads)}."
    return Figure("pruned_where", title, reading, seeds, tuple(panels), data, lead)


def _row(layer: str) -> str:
    return layer.replace(".", " ", 1)


def _matrix(row: dict[Any, Any]) -> str:
    layer, kind = str(row["layer"]), str(row["kind"])
    return f"the {kind}" if layer == kind else f"{kind} of layer {_row(layer)}"


def neutrality_figure(material: Material, options: Options) -> Figure | Missing:
    """The neutrality index of each study and sparsity, with its interval, as a table."""
    title = "Neutrality index"
    data = material.indices
    if data.empty:
        return Missing(title, "it takes tickets of two languages or more, and of two seeds of each")
    rows = [row for _, _, part in by_panel(data, material.studies, options) for row in part.to_dict("records")]
    head = ("study", "sparsity", "of", "index", "95 % interval", "across languages", "between seeds")
    body = [
        (
            row["study"],
            sparsity_name(row["sparsity"]),
            row["measure"].replace("_", " "),
            _fixed(row["index"]),
            _interval(row),
            _fixed(row["cross"]),
            _fixed(row["ceiling"]),
        )
        for row in rows
    ]
    reading = (
        "The overlap of tickets of two languages over that of two seeds of one language, all of different seeds: 1 "
        "where another language changes a ticket no more than another seed does. Only languages with two seeds count. "
        f"The interval is {JACKKNIFE}; “corrected” takes off what chance gives, for departures their null. Where there "
        "is “departure corrected” it is the one to go by: theta_0 makes most of any overlap, which draws the others "
        "to 1. The CSV has all sparsities."
    )
    headline = {(row["study"], row["sparsity"]): row for row in reversed(rows)}  # the first row of each
    leads = [
        (*key, f"{_fixed(row['index'])} of {_OF[row['measure']]} ({_interval(row)})")
        for key, row in reversed(headline.items())
    ]
    pairs = material.pairs[material.pairs["study"].isin(data["study"])]
    seeds = seed_words(pairs, ("seed_a", "seed_b"))
    lead = f"Neutrality index, across languages over across seeds of one (95 %): {by_level(leads)}."
    return Figure("neutrality", title, reading, seeds, (), data, lead, table=rows_table(head, body))


def _interval(row: dict[Any, Any]) -> str:
    low, high = _fixed(row["index_low"]), _fixed(row["index_high"])
    return f"no interval: {row['interval']}" if DASH in (low, high) else f"{low} to {high}"


def _fixed(value: float | None) -> str:
    return DASH if value is None or value != value else number(value, 3)
