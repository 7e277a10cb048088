"""Line plots and point clouds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import altair as alt

from lnsub.charts.drawing import DASH, Drawing, Focus, Table, chart, finished, series
from lnsub.charts.text import number

Tick = tuple[float, str]
"""A place on an axis and what is written there."""

_HEIGHT = 190
_DASHES = {"": [1, 0], "plain": [5, 3], "level": [1, 3]}


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: the series that it is of.
        points: in the order of x.
        ranges: at some x the ends of a stroke.
        rings: the x that are ringed.
        level: a horizontal reference in the line's colour, or none.
        plain: what the line is, if it is dashed, thin and without markers: the level of chance, for example.
    """

    name: str
    points: Sequence[tuple[float, float]]
    ranges: dict[float, tuple[float, float]] = field(default_factory=dict)
    rings: frozenset[float] = frozenset()
    level: float | None = None
    plain: str = ""


@dataclass(frozen=True)
class Dot:
    """A point of a cloud: a pair of languages, where it is, and its series."""

    source: str
    target: str
    x: float
    y: float
    series: str


def line_plot(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    order: Sequence[str],
    names: Mapping[str, str] | None = None,
    x_ticks: Sequence[Tick] | None = None,
    decimals: int = 1,
    languages: bool = False,
    ring: str = "",
    level: str = "",
) -> Drawing:
    """Draws lines.

    Args:
        lines: at least one, with at least one point.
        label: what the plot shows, for screen readers.
        x_label: the name and unit of what lies across.
        y_label: the name and unit of what lies upwards.
        order: all series of the report, which gives each its colour.
        names: what series are called, where it is not their names.
        x_ticks: where and what to write below; round numbers by default.
        decimals: of the values in tooltips.
        languages: the series are languages, which can be picked out.
        ring: what a ring says.
        level: what a horizontal reference is.
    """
    names = names or {}
    data = _rows(lines, ring, level, decimals)
    focus = Focus(("series",) if languages else ())
    axis: dict[str, Any] = {"grid": False, "title": x_label}
    if x_ticks is None:
        x_axis = alt.Axis(**axis, tickCount=6)
    else:
        places = {f"{place:g}": text for place, text in x_ticks}
        x_axis = alt.Axis(**axis, values=[place for place, _ in x_ticks], labelExpr=f"{_literal(places)}[datum.value]")
    ends = [place for place, _ in x_ticks] if x_ticks else [x for line in lines for x, _ in line.points]
    pad = (max(ends) - min(ends)) * 0.03 or 1.0
    x = alt.X(
        field="x",
        type="quantitative",
        axis=x_axis,
        scale=alt.Scale(zero=False, nice=False, domain=[min(ends) - pad, max(ends) + pad]),
    )
    y = _upwards(y_label)
    channels = series("series", order, [line.name for line in lines if not line.plain], names)
    tooltip = [
        alt.Tooltip(field="series", type="nominal", title="line"),
        alt.Tooltip(field="x", type="quantitative", title=x_label, format="~g"),
        alt.Tooltip(field="y", type="quantitative", title=y_label, format=f".{decimals}f"),
    ]
    if any(line.ranges for line in lines):
        tooltip.append(alt.Tooltip(field="range", type="nominal", title="stroke"))
    drawn = line_layers(x, y, channels, tooltip, focus, data, ring)
    table = _table(lines, x_label, names, dict(x_ticks or ()), decimals, level)
    table = replace(table, unit=y_label)
    return finished(drawn.properties(height=_HEIGHT), data, label, focus, names, table)


def line_layers(
    x: Any,
    y: Any,
    channels: Mapping[str, Any],
    tooltip: Any,
    focus: Focus,
    data: Sequence[Mapping[str, Any]],
    ring: str = "",
) -> Any:
    """The layers of a line plot: lines, their strokes and rings, points, and references.

    Args:
        x: the channel of what lies across.
        y: that of what lies upwards.
        channels: colour and marker.
        tooltip: what a pointer on a point shows.
        focus: what can be picked out.
        data: rows with ``x``, ``y``, ``series`` and ``kind``: empty of a line, else what a reference is.
        ring: what a ring says.
    """
    kinds = [str(row["kind"]) for row in data if row["kind"]]
    dashes = {str(row["kind"]): _DASHES[str(row["dash"])] for row in data if row["kind"]}
    colour, opacity = channels["color"], focus.opacity()
    base = chart()
    layers = []
    if kinds:
        shown = list(dict.fromkeys(kinds))
        dash = alt.StrokeDash(
            field="kind",
            type="nominal",
            scale=alt.Scale(domain=shown, range=[dashes[kind] for kind in shown]),
            legend=alt.Legend(title=None, orient="bottom", columns=1, symbolType="stroke", symbolSize=300),
        )
        dashed = base.transform_filter("datum.kind != ''").mark_line(strokeWidth=1.5, aria=False)
        layers.append(dashed.encode(x=x, y=y, color=colour, strokeDash=dash, opacity=opacity))
    main = base.transform_filter("datum.kind == ''")
    layers.append(main.mark_line(aria=False).encode(x=x, y=y, color=colour, opacity=opacity))
    if any("low" in row for row in data):
        ends = {"y": alt.Y(field="low", type="quantitative"), "y2": alt.Y2(field="high")}
        layers.append(
            main.transform_filter("isValid(datum.low)")
            .mark_rule(strokeWidth=1.4, aria=False)
            .encode(x=x, color=colour, opacity=focus.opacity(0.65), **ends)
        )
    points = main.mark_point(filled=True, size=44, opacity=1)
    layers.append(points.encode(x=x, y=y, tooltip=tooltip, opacity=opacity, **channels))
    if any(row.get("ring") for row in data):
        size = alt.Size(
            field="ring",
            type="ordinal",
            scale=alt.Scale(type="ordinal", domain=[ring], range=[190]),
            legend=alt.Legend(
                title=None,
                orient="bottom",
                symbolType="circle",
                symbolFillColor="transparent",
                symbolStrokeColor="#808080",
            ),
        )
        layers.append(
            main.transform_filter("isValid(datum.ring)")
            .mark_point(filled=False, strokeWidth=1.6, aria=False)
            .encode(x=x, y=y, size=size, color=colour, shape=alt.value("circle"), opacity=opacity)
        )
    return alt.layer(*layers)


def point_cloud(dots: Sequence[Dot], *, label: str, x_label: str, y_label: str, order: Sequence[str]) -> Drawing:
    """Draws a point for each pair of languages.

    Args:
        dots: at least one.
        label: what the plot shows, for screen readers.
        x_label: the name and unit of what lies across.
        y_label: the name and unit of what lies upwards; zero is always shown.
        order: all sparsities of the report, which gives each its colour and marker.
    """
    data = [{"source": d.source, "target": d.target, "x": d.x, "y": d.y, "series": d.series} for d in dots]
    focus = Focus(("source", "target"), "series")
    channels = series("series", order, [dot.series for dot in dots], {})
    tooltip = [alt.Tooltip(field=name, type="nominal", title=name) for name in ("source", "target")]
    tooltip += [
        alt.Tooltip(field="series", type="nominal", title="sparsity"),
        alt.Tooltip(field="x", type="quantitative", title=x_label, format=".1f"),
        alt.Tooltip(field="y", type="quantitative", title=y_label, format=".1f"),
    ]
    axis = alt.Axis(title=x_label, tickCount=5)
    x = alt.X(field="x", type="quantitative", scale=alt.Scale(zero=False, padding=10), axis=axis)
    drawn = chart().mark_point(filled=True, size=48, opacity=1)
    drawn = drawn.encode(x=x, y=_upwards(y_label, zero=True), tooltip=tooltip, opacity=focus.opacity(0.9), **channels)
    body = [(d.source, d.target, d.series, number(d.x, 1), number(d.y, 1)) for d in dots]
    table = Table(("source", "target", "sparsity", x_label, y_label), tuple(body))
    return finished(drawn.properties(height=220), data, label, focus, {}, table)


def _upwards(title: str, zero: bool = False) -> Any:
    return alt.Y(
        field="y", type="quantitative", scale=alt.Scale(zero=zero, nice=True), axis=alt.Axis(title=title, tickCount=5)
    )


def _rows(lines: Sequence[Line], ring: str, level: str, decimals: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    xs = [x for line in lines for x, _ in line.points]
    strokes = any(line.ranges for line in lines)
    for line in lines:
        for x, y in line.points:
            row: dict[str, Any] = {"x": float(x), "y": float(y), "series": line.name, "kind": line.plain}
            if line.plain:
                row["dash"] = "plain"
            if x in line.ranges:
                row["low"], row["high"] = map(float, line.ranges[x])
            if strokes and not line.plain:
                row["range"] = _range(line, x, decimals) or DASH
            if x in line.rings:
                row["ring"] = ring
            rows.append(row)
        if line.level is not None:
            rows += [
                {"x": float(x), "y": float(line.level), "series": line.name, "kind": level, "dash": "level"}
                for x in (min(xs), max(xs))
            ]
    return rows


def _table(
    lines: Sequence[Line], x_label: str, names: Mapping[str, str], ticks: Mapping[float, str], decimals: int, level: str
) -> Table:
    """A row for each place across, a column for each line."""
    xs = sorted({x for line in lines for x, _ in line.points})
    heads = [f"{line.plain}: {line.name}" if line.plain else names.get(line.name, line.name) for line in lines]
    cells = [dict(line.points) for line in lines]
    body = []
    for x in xs:
        row = [ticks.get(x) or f"{x:g}"]
        for line, by_x in zip(lines, cells, strict=True):
            text = number(by_x[x], decimals) if x in by_x else DASH
            if x in line.ranges:
                text += f" ({_range(line, x, decimals)})"
            row.append(text + (" ○" if x in line.rings else ""))
        body.append(tuple(row))
    if any(line.level is not None for line in lines):
        levels = (DASH if line.level is None else number(line.level, decimals) for line in lines)
        body.append((level, *levels))
    return Table((x_label, *heads), tuple(body))


def _range(line: Line, x: float, decimals: int) -> str:
    """The ends of a line's stroke at a place; empty where it has none."""
    return " to ".join(number(end, decimals) for end in line.ranges.get(x, ()))


def _literal(texts: Mapping[str, str]) -> str:
    """An object of Vega's expression language."""
    return json.dumps(dict(texts), ensure_ascii=False)
