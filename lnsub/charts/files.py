"""Charts as files for a paper: PDF, SVG and PNG, as wide as a column of text, with their fonts."""

import re
from typing import Any

from lnsub.charts.drawing import NAMES, Drawing
from lnsub.charts.theme import WIDTH, theme

FORMATS = ("pdf", "svg", "png")
"""The formats that a chart can be written in."""

COLUMN = 3.3
"""Inches of a column in the ACL's and most other conferences' styles; text is 8 points."""

_POINTS, _DOTS = 72, 300
_SCALE = COLUMN * _POINTS / WIDTH  # points of a pixel


def rendered(drawing: Drawing, form: str) -> bytes:
    """Draws a chart for a paper: on white, a column wide, with languages by their codes.

    Codes alone, because vl-convert takes letters that Arial's substitute lacks from the machine's fonts, which may lack
    them too.

    Args:
        drawing: the chart.
        form: one of :data:`FORMATS`.

    Returns:
        The file: fonts are embedded in PDF, text stays text in SVG, PNG has 300 dots an inch.
    """
    import vl_convert

    spec, config = paper(drawing), theme("light") | {"background": "white"}
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(spec, config=config, scale=_SCALE, ppi=_DOTS))
    drawn = str(vl_convert.vegalite_to_svg(spec, config=config))
    # A PDF's points are what the converter takes pixels for.
    return bytes(vl_convert.svg_to_pdf(_sized(drawn, ""))) if form == "pdf" else _sized(drawn, "pt").encode()


def paper(drawing: Drawing) -> dict[str, Any]:
    """A chart's specification for paper: a column wide, and with languages by their codes."""
    spec = dict(drawing.spec)
    spec["width"] = min(spec["width"], WIDTH)
    spec["params"] = [p | {"value": {}} if p["name"] == NAMES else p for p in spec["params"]]
    return spec


def _sized(svg: str, unit: str) -> str:
    """An SVG with its width and height in points; the view box keeps the pixels."""
    return re.sub(r'(width|height)="([\d.]+)"', lambda m: f'{m[1]}="{float(m[2]) * _SCALE:.2f}{unit}"', svg, count=2)
