"""A dashboard's charts that are not built into W&B: the layers of a report's, over the columns of its tables.

W&B substitutes a table's columns for ``${field:...}``, and puts its rows into the data set ``wandb``. It draws with
Vega-Lite 5, of which the layers use nothing that is newer.
"""

import hashlib
import json
from typing import Any

import altair as alt

from lnsub.charts.drawing import Spec
from lnsub.charts.heat import heat_layers

_SHADES = {"scheme": {"name": "blues", "extent": [0.0, 0.6]}}  # light enough for black numbers
_DATA = alt.NamedData(name="wandb")
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def heat_map(rows: str, columns: str) -> Spec:
    """One square for each pair of languages, with the mean value as a number; one map per study and sparsity.

    Fields: ``row``, ``column``, ``value``, ``study``, ``sparsity``.

    Args:
        rows: the title of the rows' axis.
        columns: the title of the columns' axis.
    """
    colour = alt.Color(field="mean_value", type="quantitative", scale=alt.Scale.from_dict(_SHADES), legend=None)
    layers = heat_layers(
        alt.Y(field=_field("row"), type="nominal", title=rows),
        alt.X(field=_field("column"), type="nominal", title=columns),
        colour,
        ".3f",
        size=10,
        ink="black",
        tooltip=[
            alt.Tooltip(field=_field("row"), type="nominal", title=rows),
            alt.Tooltip(field=_field("column"), type="nominal", title=columns),
            alt.Tooltip(field="mean_value", type="quantitative", title="mean", format=".3f"),
        ],
        opacity=alt.value(1),
    ).properties(width=200, height=160)
    spec = layers.facet(facet=alt.Facet(field="panel", type="nominal", title=None), columns=4, data=_DATA)
    # Metrics of different tasks are not comparable, so each study has a colour scale of its own.
    spec = spec.resolve_scale(color="independent", x="independent", y="independent")
    grouped = [_field(name) for name in ("study", "sparsity", "row", "column")]
    mean = {"op": "mean", "field": _field("value"), "as": "mean_value"}
    panel = f"datum['{_field('study')}'] + ' at sparsity ' + datum['{_field('sparsity')}']"
    return _stored(spec) | {
        "transform": [{"aggregate": [mean], "groupby": grouped}, {"calculate": panel, "as": "panel"}],
    }


def lines() -> Spec:
    """One line per sparsity over the layers, one panel per study; solid between languages, dashed between seeds.

    Fields: ``x``, ``value``, ``study``, ``sparsity``, ``dash``.
    """
    sparsity = alt.Color(field=_field("sparsity"), type="ordinal", title="sparsity", scale=alt.Scale(scheme="viridis"))
    value = alt.Y(
        field=_field("value"),
        type="quantitative",
        aggregate="mean",
        title="overlap (Jaccard)",
        scale=alt.Scale(zero=False),
    )
    chart = (
        alt.Chart(_DATA)
        .mark_line(point=True, tooltip=True)
        .encode(
            # In the table's order, which is the order of the layers.
            x=alt.X(field=_field("x"), type="ordinal", sort=None, title="layer"),
            y=value,
            color=sparsity,
            strokeDash=alt.StrokeDash(field=_field("dash"), type="nominal", title=None),
        )
        .properties(width=260, height=200)
    )
    return _stored(chart.facet(column=alt.Column(field=_field("study"), type="nominal", title=None)))


def _field(name: str) -> str:
    return f"${{field:{name}}}"


def _stored(chart: Any) -> Spec:
    """A chart as W&B keeps it: without Altair's defaults, and without data but for their name."""
    spec = {key: value for key, value in chart.to_dict(validate=False).items() if key != "config"}
    for part in (spec["spec"], *spec["spec"].get("layer", ())):
        part.pop("data", None)
    return spec | {"$schema": _SCHEMA, "title": "${string:title}", "data": {"name": "wandb"}}


CHARTS: dict[str, tuple[str, Spec]] = {
    "transfer": ("lnsub: transfer, source by target", heat_map("source", "target")),
    "overlap": ("lnsub: overlap, language by language", heat_map("ticket of", "and of")),
    "layers": ("lnsub: overlap by layer", lines()),
}
"""Each chart's title on W&B and its specification."""


def stored_name(chart: str) -> str:
    """The name that a chart is stored under; another specification has another name, so none is overwritten."""
    text = json.dumps(CHARTS[chart][1], sort_keys=True)
    return f"lnsub-{chart}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
