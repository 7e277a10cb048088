"""Elements of figures: markup, text and its width, and the markers of series.

Figures are written as SVG directly: text stays text, in the page's own font and direction, and colours are the page's
custom properties, so that one drawing serves light pages, dark pages and paper.
"""

import math
import unicodedata
from html import escape

STYLES = 8
"""How many colours and markers there are; further series combine them in new ways."""


def tag(name: str, /, *content: str, **attributes: object) -> str:
    """Writes one element, of HTML or SVG.

    Args:
        name: ``rect``, ``p``, ...
        content: markup inside it, in order; text goes through :func:`html.escape` first.
        attributes: by name, with ``_`` for ``-``; a last ``_`` is dropped (``class_``). None leaves one out; numbers
            are rounded to hundredths.

    Returns:
        The markup.
    """
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(content)
    # An empty element of HTML must not close itself, an SVG one may.
    return f"<{name}{listed}/>" if not inside and name in _EMPTY else f"<{name}{listed}>{inside}</{name}>"


_EMPTY = {"rect", "line", "path", "circle", "polyline", "meta", "br"}


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
    return str(value)


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "t", **attributes: object) -> str:
    """Writes a line of text; ``y`` is its middle, ``anchor`` is ``start``, ``middle`` or ``end``."""
    anchored = None if anchor == "start" else anchor
    # A third of the font's size below the middle is the base line: `dominant-baseline` differs between renderers.
    return tag("text", escape(content), x=x, y=y, dy=".35em", text_anchor=anchored, class_=class_, **attributes)


def width_of(content: str, size: float = 12) -> float:
    """Estimates the width of a line of text in pixels, erring on the wide side.

    Args:
        content: the text.
        size: the font's size in pixels.
    """
    total = 0.0
    for char in content:
        if unicodedata.category(char) in {"Cf", "Mn", "Me"}:
            continue
        if unicodedata.east_asian_width(char) in {"W", "F"}:
            total += 1.05
        else:
            total += 0.34 if char in " .,:;'|!iljtfI·" else 0.9 if char in "mwMW%@ШЩЖМшщжмю" else 0.62
    return total * size


def marker(style: int, x: float, y: float, size: float = 4.0, title: str = "") -> str:
    """Draws a series' marker, with a tooltip where ``title`` is given.

    Args:
        style: the series' number.
        x: its middle.
        y: its middle.
        size: half its width, in pixels.
        title: what a pointer on it shows.
    """
    inside = tag("title", escape(title)) if title else ""
    shape = (style + style // STYLES) % STYLES
    attributes = {"class_": f"m {series(style)}"}
    if shape == 0:
        return tag("circle", inside, cx=x, cy=y, r=size, **attributes)
    r = size * 1.15
    corners = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3: [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        4: [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        5: [
            (
                math.sin(a * math.pi / 5) * (1.35 if a % 2 == 0 else 0.6),
                -math.cos(a * math.pi / 5) * (1.35 if a % 2 == 0 else 0.6),
            )
            for a in range(10)
        ],
        6: [
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ],
        7: [(math.sin(a * math.pi / 3 + 0.5), -math.cos(a * math.pi / 3 + 0.5)) for a in range(6)],
    }[shape]
    points = "L".join(f"{_plain(float(x + r * dx))},{_plain(float(y + r * dy))}" for dx, dy in corners)
    return tag("path", inside, d=f"M{points}Z", **attributes)


def series(style: int) -> str:
    """The class that gives a series its colour, and a dash of its own where colours are used for the second time."""
    return f"s{style % STYLES}" + (" again" if style // STYLES % 2 else "")


def drawing(width: float, height: float, label: str, *content: str) -> str:
    """Puts content into an ``svg`` element, which a narrow page may shrink a little and then scrolls.

    Args:
        width: of the drawing, in pixels.
        height: of the drawing, in pixels.
        label: what it shows, for screen readers.
        content: markup.
    """
    return tag(
        "svg",
        *content,
        viewBox=f"0 0 {_plain(float(width))} {_plain(float(height))}",
        width=float(width),
        height=float(height),
        style=f"min-width:{_plain(float(round(0.82 * width)))}px",
        role="img",
        aria_label=label,
    )
