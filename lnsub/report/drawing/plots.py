"""Line plots and point clouds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from lnsub.report.drawing.axes import Plot, Scale, Tick, plot, round_ticks
from lnsub.report.drawing.svg import drawing, marker, series, tag

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Args:
        name: what it is, for tooltips.
        style: the number of its colour and marker.
        points: in the order of x.
        ranges: at some x the lowest and highest of several seeds.
        rings: the x that are ringed.
        level: a horizontal reference in the line's colour.
        plain: dashed, thin and without markers, for example for the level of chance.
    """

    name: str
    style: int
    points: Sequence[Point]
    ranges: dict[float, tuple[float, float]] = field(default_factory=dict)
    rings: frozenset[float] = frozenset()
    level: float | None = None
    plain: bool = False


@dataclass(frozen=True)
class Dot:
    """A point of a cloud: where, the number of its colour and marker, and its tooltip."""

    x: float
    y: float
    style: int
    title: str


def line_plot(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[Tick] | None = None,
    decimals: int = 1,
) -> str:
    """Draws lines.

    Args:
        lines: at least one, with at least one point.
        label: what the plot shows, for screen readers.
        x_label: the name and unit below.
        y_label: the name and unit above.
        x_ticks: where and what to write below; round numbers by default.
        decimals: of the values in tooltips.

    Returns:
        An ``svg`` element.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    ys += [end for line in lines for ends in line.ranges.values() for end in ends]
    ys += [line.level for line in lines if line.level is not None]
    frame = plot(x_ticks or round_ticks(min(xs), max(xs), 6), round_ticks(min(ys), max(ys)), x_label, y_label)
    # Dashed levels first and markers last, so that nothing covers a measured point but another one.
    parts = [frame.markup, *(_level(line, frame) for line in lines)]
    parts += [_path(line, frame) for line in lines]
    written = dict(x_ticks or [])
    for line in lines:
        for x, (low, high) in line.ranges.items():
            x_px = frame.x(x)
            parts.append(_stroke("range", line.style, x_px, frame.y(low), x_px, frame.y(high)))
        for x, y in line.points if not line.plain else ():
            title = f"{line.name}, {written.get(x) or f'{x:g}'}: {y:.{decimals}f}"
            parts.append(marker(line.style, frame.x(x), frame.y(y), title=title))
            if x in line.rings:
                parts.append(tag("circle", cx=frame.x(x), cy=frame.y(y), r=8.5, class_=f"ring {series(line.style)}"))
    return drawing(frame.width, frame.height, label, *parts)


def _path(line: Line, frame: Plot) -> str:
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line.points)
    return tag("polyline", points=points, class_=f"{'plain' if line.plain else 'line'} {series(line.style)}")


def _level(line: Line, frame: Plot) -> str:
    if line.level is None:
        return ""
    y = frame.y(line.level)
    return _stroke("level", line.style, frame.x.start, y, frame.x.stop, y)


def _stroke(class_: str, style: int, x1: float, y1: float, x2: float, y2: float) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=f"{class_} {series(style)}")


def point_cloud(dots: Sequence[Dot], *, label: str, x_label: str, y_label: str) -> str:
    """Draws a point for each pair.

    Args:
        dots: at least one.
        label: what the plot shows, for screen readers.
        x_label: the name and unit below.
        y_label: the name and unit above.

    Returns:
        An ``svg`` element.
    """
    xs, ys = [dot.x for dot in dots], [dot.y for dot in dots]
    # Zero, where the ticket is as good as the target's own, is always shown.
    y_ticks = round_ticks(min(*ys, 0.0) if len(ys) > 1 else min(ys[0], 0.0), max([*ys, 0.0]))
    frame = plot(round_ticks(min(xs), max(xs), 4), y_ticks, x_label, y_label, height=280)
    parts = [marker(dot.style, frame.x(dot.x), frame.y(dot.y), 4.2, dot.title) for dot in dots]
    return drawing(frame.width, frame.height, label, frame.markup, *parts)


def swatch(style: int, kind: str = "line") -> str:
    """Draws what stands for a series in a legend.

    Args:
        style: the series' number.
        kind: ``line``, ``mark`` (the marker alone), ``plain``, ``level``, ``ring``, or ``block`` (a bar).
    """
    middle = Scale(0, 1, 0, 26)(0.5)
    if kind == "block":
        inside = tag("rect", x=5, y=1, width=16, height=12, class_=f"bar b{style}")
    elif kind == "ring":
        inside = tag("circle", cx=middle, cy=7, r=6, class_="ring")
    else:
        inside = "" if kind == "mark" else tag("line", x1=1, x2=25, y1=7, y2=7, class_=f"{kind} {series(style)}")
        inside += marker(style, middle, 7) if kind in {"line", "mark"} else ""
    return tag("svg", inside, viewBox="0 0 26 14", width=26, height=14, aria_hidden="true", class_="swatch")


def key(entries: Sequence[tuple[str, str]]) -> str:
    """Writes a legend: swatches and what they stand for.

    Args:
        entries: of markup each: the swatch, the words.
    """
    items = (tag("li", swatch_markup, " ", words) for swatch_markup, words in entries)
    return tag("ul", *items, class_="key") if entries else ""


def plain_key(entries: Sequence[tuple[str, str]]) -> str:
    """The same, of words that are still plain text."""
    return key([(swatch_markup, escape(words)) for swatch_markup, words in entries])
