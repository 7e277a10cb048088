"""Horizontal bars, and rows of dots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from lnsub.charts.drawing import DASH, Drawing, Focus, Table, chart, finished, named, series
from lnsub.charts.text import number, width_of
from lnsub.charts.theme import WIDTH

_BAR, _GAP, _ROW = 15, 9, 30


@dataclass(frozen=True)
class Row:
    """A row of dots: its name, and each dot's value by language; a stroke marks their mean."""

    name: str
    dots: Sequence[tuple[str, float]]

    @property
    def mean(self) -> float:
        """The mean of its dots."""
        return sum(value for _, value in self.dots) / len(self.dots)


def bar_groups(
    groups: Mapping[str, Mapping[str, float]],
    *,
    label: str,
    x_label: str,
    order: Sequence[str],
    names: Mapping[str, str] | None = None,
    decimals: int = 1,
    levels: bool = False,
) -> Drawing:
    """Draws a group of bars for each language, from zero to either side, with their values at their ends.

    Args:
        groups: values by series, by language, from the top; at least one bar.
        label: what it shows, for screen readers.
        x_label: the name and unit of the values.
        order: all series of the report, which gives each its colour.
        names: what languages are called.
        decimals: of the values.
        levels: the series are sparsities, which can be chosen.
    """
    names = names or {}
    data = [
        {"group": group, "series": one, "value": float(value)}
        for group, bars in groups.items()
        for one, value in bars.items()
    ]
    values = [value for bars in groups.values() for value in bars.values()]
    present = [one for one in order if any(one in bars for bars in groups.values())]
    focus = Focus(("group",), "series" if levels else "")
    low, high = min(*values, 0.0, 0.0), max(*values, 0.0, 0.0)
    # The numbers at the bars' ends need room beside the longest bars.
    inner = WIDTH - max(width_of(names.get(group, group)) for group in groups) - 40
    room = (max(width_of(number(value, decimals), 11) for value in values) + 8) / max(inner, 120.0)
    pad = (high - low or 1.0) * room / max(1 - room * ((low < 0) + (high > 0)), 0.3)
    scale = alt.Scale(domain=[low - pad * (low < 0), high + pad * (high > 0 or low == 0)], nice=False)
    y = alt.Y(
        field="group",
        type="nominal",
        sort=list(groups),
        title=None,
        axis=alt.Axis(labelExpr=named(), ticks=False, domain=False, labelPadding=6, labelOverlap=False),
        scale=alt.Scale(paddingInner=_GAP / (_BAR * len(present) + _GAP), paddingOuter=0),
    )
    offset = alt.YOffset(field="series", type="nominal", sort=present, scale=alt.Scale(domain=present))
    x = alt.X(field="value", type="quantitative", scale=scale, axis=alt.Axis(title=x_label, tickCount=4))
    colour = series("series", order, present, {}, WIDTH - inner)["color"]
    tooltip = [
        alt.Tooltip(field="group", type="nominal", title="language"),
        alt.Tooltip(field="series", type="nominal", title=" "),
        alt.Tooltip(field="value", type="quantitative", title=x_label, format=f".{decimals + 1}f"),
    ]
    place = {"y": y, "yOffset": offset, "opacity": focus.opacity()}
    bars = chart().mark_bar(height=_BAR - 2).encode(x=x, color=colour, tooltip=tooltip, **place)
    text = alt.Text(field="value", type="quantitative", format=f".{decimals}f")
    ends = [
        chart()
        .transform_filter(f"datum.value {sign} 0")
        .mark_text(align=align, dx=dx, fontSize=11, baseline="middle", aria=False)
        .encode(x=x, text=text, **place)
        for sign, align, dx in (("<", "right", -4), (">=", "left", 4))
    ]
    zero = chart().mark_rule(strokeWidth=1, aria=False).encode(x=alt.datum(0))
    table = Table(
        ("language", *present),
        tuple(
            (names.get(group, group), *(number(bars[one], decimals) if one in bars else DASH for one in present))
            for group, bars in groups.items()
        ),
        x_label,
    )
    height = len(groups) * (_BAR * len(present) + _GAP)
    return finished(alt.layer(bars, *ends, zero).properties(height=height), data, label, focus, names, table)


def dot_rows(
    rows: Sequence[Row],
    *,
    label: str,
    x_label: str,
    order: Sequence[str],
    names: Mapping[str, str] | None = None,
    decimals: int = 1,
) -> Drawing:
    """Draws a row of dots for each kind of model, a dot a language, with a stroke at their mean.

    Args:
        rows: from the top; at least one dot each.
        label: what it shows, for screen readers.
        x_label: the name and unit of the values.
        order: all languages of the report, which gives each its colour and marker.
        names: what languages are called.
        decimals: of the values in tooltips.
    """
    names = names or {}
    data = [
        {"row": row.name, "language": language, "value": float(value)} for row in rows for language, value in row.dots
    ]
    focus = Focus(("language",))
    y = alt.Y(
        field="row",
        type="nominal",
        sort=[row.name for row in rows],
        title=None,
        axis=alt.Axis(ticks=False, domain=False, grid=False, labelPadding=6, labelOverlap=False),
    )
    axis = alt.Axis(title=x_label, tickCount=4)
    x = alt.X(field="value", type="quantitative", scale=alt.Scale(zero=False, padding=8), axis=axis)
    present = [language for row in rows for language, _ in row.dots]
    tooltip = [
        alt.Tooltip(field="row", type="nominal", title=" "),
        alt.Tooltip(field="language", type="nominal", title="target"),
        alt.Tooltip(field="value", type="quantitative", title=x_label, format=f".{decimals}f"),
    ]
    mean = alt.X(aggregate="mean", field="value", type="quantitative", axis=axis)
    mean_tip = alt.Tooltip(aggregate="mean", field="value", type="quantitative", title="mean", format=f".{decimals}f")
    left = max(width_of(row.name) for row in rows) + 10
    channels = series("language", order, present, names, left)
    # Strokes first, so that they hide no point.
    drawn = alt.layer(
        chart().mark_tick(thickness=2, size=_ROW - 6).encode(x=mean, y=y, tooltip=[tooltip[0], mean_tip]),
        chart()
        .mark_point(filled=True, size=50, opacity=1)
        .encode(x=x, y=y, tooltip=tooltip, opacity=focus.opacity(), **channels),
    )
    there = [name for name in [*order, *present] if name in present]
    heads = list(dict.fromkeys(there))
    cells = [dict(row.dots) for row in rows]
    table = Table(
        ("", *(names.get(language, language) for language in heads), "mean"),
        tuple(
            (
                row.name,
                *(number(by[language], decimals) if language in by else DASH for language in heads),
                number(row.mean, decimals),
            )
            for row, by in zip(rows, cells, strict=True)
        ),
        x_label,
    )
    return finished(drawn.properties(height=_ROW * len(rows)), data, label, focus, names, table)
