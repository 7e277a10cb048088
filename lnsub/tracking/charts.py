"""A dashboard's charts that are not built into W&B, as Vega-Lite specifications over a report's tables.

W&B substitutes a table's columns for ``${field:...}``, and puts its rows into the data set ``wandb``.
"""

import hashlib
import json
from typing import Any

Spec = dict[str, Any]

_SHADES = {"scheme": {"name": "blues", "extent": [0.0, 0.6]}}  # light enough for black numbers
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def heat_map(rows: str, columns: str) -> Spec:
    """One square for each pair of languages, with the mean value as a number; one map per study and sparsity.

    Fields: ``row``, ``column``, ``value``, ``study``, ``sparsity``.

    Args:
        rows: the title of the rows' axis.
        columns: the title of the columns' axis.
    """
    mean = {"field": "mean_value", "type": "quantitative"}
    return {
        "$schema": _SCHEMA,
        "title": "${string:title}",
        "data": {"name": "wandb"},
        "transform": [
            {
                "aggregate": [{"op": "mean", "field": "${field:value}", "as": "mean_value"}],
                "groupby": [f"${{field:{name}}}" for name in ("study", "sparsity", "row", "column")],
            },
            {
                "calculate": "datum['${field:study}'] + ' at sparsity ' + datum['${field:sparsity}']",
                "as": "panel",
            },
        ],
        "facet": {"field": "panel", "type": "nominal", "title": None},
        "columns": 4,
        "spec": {
            "width": 200,
            "height": 160,
            "encoding": {
                "x": {"field": "${field:column}", "type": "nominal", "title": columns},
                "y": {"field": "${field:row}", "type": "nominal", "title": rows},
            },
            "layer": [
                {
                    "mark": {"type": "rect", "tooltip": True},
                    "encoding": {"color": {**mean, "legend": None, "scale": _SHADES}},
                },
                {"mark": {"type": "text", "fontSize": 10}, "encoding": {"text": {**mean, "format": ".3f"}}},
            ],
        },
        # Metrics of different tasks are not comparable, so each study has a colour scale of its own.
        "resolve": {"scale": {"color": "independent", "x": "independent", "y": "independent"}},
    }


def lines() -> Spec:
    """One line per sparsity over the layers, one panel per study; solid between languages, dashed between seeds.

    Fields: ``x``, ``value``, ``study``, ``sparsity``, ``dash``.
    """
    return {
        "$schema": _SCHEMA,
        "title": "${string:title}",
        "data": {"name": "wandb"},
        "facet": {"column": {"field": "${field:study}", "type": "nominal", "title": None}},
        "spec": {
            "width": 260,
            "height": 200,
            "mark": {"type": "line", "point": True, "tooltip": True},
            "encoding": {
                # In the table's order, which is the order of the layers.
                "x": {"field": "${field:x}", "type": "ordinal", "sort": None, "title": "layer"},
                "y": {
                    "field": "${field:value}",
                    "type": "quantitative",
                    "aggregate": "mean",
                    "title": "overlap (Jaccard)",
                    "scale": {"zero": False},
                },
                "color": {
                    "field": "${field:sparsity}",
                    "type": "ordinal",
                    "title": "sparsity",
                    "scale": {"scheme": "viridis"},
                },
                "strokeDash": {"field": "${field:dash}", "type": "nominal", "title": None},
            },
        },
    }


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
