"""The page's scripts: the charts as data, Vega to draw them, and the bar that picks languages and a sparsity."""

import json
from collections.abc import Sequence
from functools import cache
from html import escape

from lnsub.charts.theme import shape_of, theme
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, pruned_name
from lnsub.report.languages import html_label
from lnsub.report.markup import tag
from lnsub.report.style import resource


def scripts(figures: Sequence[Figure]) -> str:
    """The scripts of a page, with the specifications of its charts; empty without charts."""
    specs = {
        f"{figure.name}-{place}": panel.drawing.spec for figure in figures for place, panel in enumerate(figure.panels)
    }
    if not specs:
        return ""
    whole = {"themes": {page: theme(page) for page in ("light", "dark")}, "specs": specs}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    # No end of a script, and no markup at all, can be inside.
    data = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return "".join(
        (
            f'<script type="application/json" id="charts">{data}</script>',
            f"<script>{_vega()}</script>",
            f"<script>{resource('page.js')}</script>",
        )
    )


def pick_bar(material: Material, figures: Sequence[Figure]) -> str:
    """The bar that picks languages and a sparsity out of all charts; a script shows it, as only scripts serve it."""
    panels = [panel for figure in figures for panel in figure.panels]
    if not panels:
        return ""
    buttons = [
        tag("button", _marker(place), html_label(code), type="button", aria_pressed="false", data_language=code)
        for place, code in enumerate(material.order)
    ]
    every = tag("button", "Show all", type="button", id="all", hidden="hidden")
    levels = sorted({panel.sparsity for panel in panels if panel.sparsity is not None})
    options = [
        tag("option", escape(pruned_name(level)), value=f"{level:g}", data_series=pruned_name(level))
        for level in levels
    ]
    chosen = tag("select", tag("option", "all", value="", data_series=""), *options, id="sparsity")
    label = tag("label", "Sparsity", chosen) if len(levels) > 1 else ""
    return tag(
        "div", "Pick out: ", *buttons, every, label, class_="pick", role="group", aria_label="Pick out", hidden=""
    )


def _marker(place: int) -> str:
    path = tag("path", d=shape_of(place), fill=f"var(--p{place % 8})")
    return tag("svg", path, viewBox="-1.2 -1.2 2.4 2.4", width=12, height=12, aria_hidden="true")


@cache
def _vega() -> str:
    """Vega and Vega-Lite as one script that sets ``vegaEmbed``."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
