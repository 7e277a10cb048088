"""What charts look like: colours, markers and type, as Vega-Lite's ``config``. Light serves paper too."""

from typing import Any

from lnsub.charts.colours import DARK_PALETTE, PALETTE, diverging, sequential

WIDTH = 356
"""Pixels of a chart: what a phone of usual width shows without shrinking it, and with text of 12 pixels what becomes
text of 8 points in a column of 3.3 inches."""

FONT = "Arial, Liberation Sans, Helvetica, Noto Sans, Noto Naskh Arabic, Noto Sans CJK SC, DejaVu Sans, sans-serif"

SHAPES: tuple[str, ...] = (
    "M-.9,0A.9,.9,0,1,1,.9,0A.9,.9,0,1,1,-.9,0Z",
    "M-.85,-.85H.85V.85H-.85Z",
    "M0,-1L1,.75H-1Z",
    "M0,-1.1L1,0L0,1.1L-1,0Z",
    "M0,1L-1,-.75H1Z",
    "M0,-1.1L.32,-.36L1.1,-.3L.5,.22L.7,1L0,.58L-.7,1L-.5,.22L-1.1,-.3L-.32,-.36Z",
    "M-.35,-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
    "M-.5,-.87H.5L1,0L.5,.87H-.5L-1,0Z",
)
"""The markers as SVG paths in a square from -1 to 1: circle, square, triangles, diamond, star, cross and hexagon."""

INK = {
    "light": {"fg": "#1b1f24", "muted": "#5b636d", "bg": "#ffffff", "rule": "#d9dde2"},
    "dark": {"fg": "#e7eaee", "muted": "#a2abb6", "bg": "#14171b", "rule": "#343b44"},
}
"""The colours of text, of quieter text, of paper and of grid lines, on light and on dark pages."""


def colour_of(place: int, page: str) -> str:
    """The colour of the series at a place, on a ``light`` or a ``dark`` page."""
    palette = DARK_PALETTE if page == "dark" else PALETTE
    return palette[place % len(palette)]


def shape_of(place: int) -> str:
    """The marker of the series at a place; another one where colours are used for the second time."""
    return SHAPES[(place + place // len(SHAPES)) % len(SHAPES)]


def theme(page: str) -> dict[str, Any]:
    """Vega-Lite's ``config`` for all charts.

    Args:
        page: ``light`` or ``dark``.
    """
    ink, steps = INK[page], 12
    ramp = [sequential(step / steps, page) for step in range(steps + 1)]
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "range": {
            "category": [colour_of(place, page) for place in range(len(PALETTE))],
            "symbol": [shape_of(place) for place in range(len(SHAPES) ** 2)],
            "ramp": ramp,
            "heatmap": ramp,
            "diverging": [diverging(step / steps, page) for step in range(-steps, steps + 1)],
        },
        "axis": {
            "labelColor": ink["fg"],
            "titleColor": ink["muted"],
            "domainColor": ink["muted"],
            "tickColor": ink["muted"],
            "gridColor": ink["rule"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "labelLimit": 200,
            "titleLimit": WIDTH - 16,
            "labelOverlap": "greedy",
            "labelSeparation": 6,
        },
        "legend": {
            "labelColor": ink["fg"],
            "titleColor": ink["muted"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titleLimit": WIDTH - 16,
            "labelLimit": WIDTH - 60,
            "gradientLength": 150,
            "gradientThickness": 10,
            "columnPadding": 14,
            "offset": 8,
            "symbolStrokeWidth": 1.6,
            "symbolBaseStrokeColor": ink["muted"],
            "gradientStrokeColor": ink["rule"],
            "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 6}},
        },
        "line": {"strokeWidth": 2, "strokeJoin": "round"},
        "rule": {"color": ink["fg"]},
        "tick": {"color": ink["fg"]},
        "text": {"color": ink["fg"], "font": FONT},
    }
