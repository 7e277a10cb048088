"""Rows of points with intervals: means of classes, side by side by series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from lnsub.charts.drawing import DASH, Drawing, Focus, Table, chart, finished, series
from lnsub.charts.text import number, width_of

_STEP, _GAP = 15, 12


@dataclass(frozen=True)
class Mean:
    """A point: its value, and the ends of its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def interval_rows(
    rows: Mapping[str, Mapping[str, Mean]],
    *,
    label: str,
    x_label: str,
    order: Sequence[str],
    head: str,
    span: tuple[float, float] | None = None,
    decimals: int = 1,
    levels: bool = False,
) -> Drawing:
    """Draws a row for each class, with a point and its interval for each series.

    Args:
        rows: means by series, by class, from the top; at least one.
        label: what it shows, for screen readers.
        x_label: the name and unit of the values.
        order: all series, which gives each its colour and marker.
        head: what the classes are, for the table.
        span: the ends of the axis, for charts to be held side by side; None for those of the data, and zero.
        decimals: of the values in tooltips and in the table.
        levels: the series are sparsities, which can be chosen.
    """
    data = [
        {"row": name, "series": one, "value": mean.value, "interval": _written(mean, decimals)}
        | ({} if mean.low is None else {"low": mean.low, "high": mean.high})
        for name, means in rows.items()
        for one, mean in means.items()
    ]
    present = [one for one in order if any(one in means for means in rows.values())]
    focus = Focus((), "series" if levels else "")
    y = alt.Y(
        field="row",
        type="nominal",
        sort=list(rows),
        title=None,
        axis=alt.Axis(ticks=False, domain=False, labelPadding=6, labelOverlap=False, labelLimit=400),
        scale=alt.Scale(paddingInner=_GAP / (_STEP * len(present) + _GAP), paddingOuter=0.1),
    )
    offset = alt.YOffset(field="series", type="nominal", sort=present, scale=alt.Scale(domain=present))
    axis = alt.Axis(title=x_label, tickCount=4)
    scale = alt.Scale(zero=True, padding=8) if span is None else alt.Scale(domain=list(span), nice=False, padding=8)
    x = alt.X(field="value", type="quantitative", scale=scale, axis=axis)
    channels = series("series", order, present, {}, max(width_of(name) for name in rows) + 10)
    tooltip = [
        alt.Tooltip(field="row", type="nominal", title=" "),
        alt.Tooltip(field="series", type="nominal", title=" "),
        alt.Tooltip(field="value", type="quantitative", title=x_label, format=f".{decimals}f"),
        alt.Tooltip(field="interval", type="nominal", title="95 %"),
    ]
    place = {"y": y, "yOffset": offset, "opacity": focus.opacity()}
    ends = {"x": alt.X(field="low", type="quantitative", axis=axis), "x2": alt.X2(field="high")}
    strokes = chart().transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, aria=False)
    points = chart().mark_point(filled=True, size=55)
    zero = chart().mark_rule(strokeWidth=1, aria=False).encode(x=alt.datum(0))
    drawn = alt.layer(
        zero,
        strokes.encode(**ends, color=channels["color"], **place),
        points.encode(x=x, tooltip=tooltip, **channels, **place),
    )
    table = Table(
        (head, *present),
        tuple(
            (name, *(_cell(means[one], decimals) if one in means else DASH for one in present))
            for name, means in rows.items()
        ),
        f"{x_label} (95 % interval)",
    )
    height = len(rows) * (_STEP * len(present) + _GAP)
    return finished(drawn.properties(height=height), data, label, focus, {}, table)


def _written(mean: Mean, decimals: int) -> str:
    return (
        DASH
        if mean.low is None or mean.high is None
        else f"{number(mean.low, decimals)} to {number(mean.high, decimals)}"
    )


def _cell(mean: Mean, decimals: int) -> str:
    ends = "" if mean.low is None else f" ({_written(mean, decimals)})"
    return f"{number(mean.value, decimals)}{ends}"
