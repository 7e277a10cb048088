"""Horizontal bars, and rows of dots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lnsub.report.drawing.axes import WIDTH, Scale, number, round_ticks
from lnsub.report.drawing.svg import drawing, marker, tag, text, width_of

_BAR = 15.0


@dataclass(frozen=True)
class Bar:
    """A bar: its value, the number of its shade, and its tooltip."""

    value: float
    shade: int
    title: str


@dataclass(frozen=True)
class Row:
    """A row of dots: its name, each dot's value, style and tooltip, and their mean."""

    name: str
    dots: Sequence[tuple[float, int, str]]
    mean: float


def bar_groups(
    groups: Mapping[str, Sequence[Bar]],
    *,
    label: str,
    x_label: str,
    decimals: int = 1,
    name: Callable[[str], str] = str,
) -> str:
    """Draws a group of bars for each key, from zero to either side, with their values at their ends.

    Args:
        groups: bars by group, from the top; at least one bar.
        label: what it shows, for screen readers.
        x_label: the name and unit of the values.
        decimals: of the values.
        name: what is written beside a group.

    Returns:
        An ``svg`` element.
    """
    values = [bar.value for bars in groups.values() for bar in bars]
    low, high = min(*values, 0.0, 0.0), max(*values, 0.0, 0.0)
    room = max(width_of(number(value, decimals), 11) for value in values) + 8
    left = max(width_of(name(group)) for group in groups) + 12
    # Without a bar on one side of zero, that side needs no room for values.
    scale = Scale(
        low, high if high > low else low + 1.0, left + (room if low < 0 else 2), WIDTH - (room if high > 0 else 8)
    )
    parts, y = [text(2, 9, x_label, class_="t name")], 24.0
    for group, bars in groups.items():
        parts.append(text(left - 8, y + _BAR * len(bars) / 2, name(group), anchor="end"))
        for bar in bars:
            ends = sorted((scale(0), scale(bar.value)))
            tip = tag("title", escape(bar.title))
            box = tag(
                "rect",
                tip,
                x=ends[0],
                y=y,
                width=max(ends[1] - ends[0], 0.5),
                height=_BAR - 2,
                class_=f"bar b{bar.shade}",
            )
            negative = bar.value < 0
            at = (ends[0] - 4, "end") if negative else (ends[1] + 4, "start")
            parts += [box, text(at[0], y + _BAR / 2 - 1, number(bar.value, decimals), anchor=at[1], class_="t n")]
            y += _BAR
        y += 9
    parts.append(tag("line", x1=scale(0), x2=scale(0), y1=20, y2=y - 5, class_="axis"))
    return drawing(WIDTH, y, label, *parts)


def dot_rows(rows: Sequence[Row], *, label: str, x_label: str, decimals: int = 1) -> str:
    """Draws a row of dots for each kind of model, with a stroke at their mean.

    Args:
        rows: from the top; at least one dot.
        label: what it shows, for screen readers.
        x_label: the name and unit of the values.
        decimals: of the means in tooltips.

    Returns:
        An ``svg`` element.
    """
    values = [value for row in rows for value, _, _ in row.dots]
    ticks = round_ticks(min(values), max(values), 4)
    left = max(width_of(row.name) for row in rows) + 14
    scale = Scale(ticks[0][0], ticks[-1][0], left + 8, WIDTH - 14)
    bottom = 22 + 30.0 * len(rows)
    parts = [text(2, 9, x_label, class_="t name")]
    for value, written in ticks:
        x = scale(value)
        parts.append(tag("line", x1=x, x2=x, y1=20, y2=bottom, class_="grid"))
        parts.append(text(x, bottom + 12, written, anchor="middle"))
    for place, row in enumerate(rows):
        y = 22 + 30 * (place + 0.5)
        parts.append(text(left - 8, y, row.name, anchor="end"))
        parts += [marker(style, scale(value), y, 4.2, title) for value, style, title in row.dots]
        x = scale(row.mean)
        tip = tag("title", escape(f"{row.name}: mean {row.mean:.{decimals}f}"))
        parts.append(tag("line", tip, x1=x, x2=x, y1=y - 12, y2=y + 12, class_="mean"))
    return drawing(WIDTH, bottom + 24, label, *parts)
