"""Heat maps with the numbers in their cells."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from lnsub.charts.drawing import DASH, Drawing, Focus, Table, chart, finished, named
from lnsub.charts.text import number, width_of
from lnsub.charts.theme import WIDTH

_ROW, _NUMBER, _LEAST = 30, 11, 28.0

HEADS = "heads"
"""The parameter with what columns are called; line breaks separate lines."""


@dataclass(frozen=True)
class Shading:
    """How values become colours, the same in all heat maps that are to be compared.

    Attributes:
        low: the value of the ramp's one end.
        high: the value of its other end.
        signed: zero is neutral, and ``high`` is the largest distance from it.
        decimals: of the numbers in the cells.
        falling: low values take the colours of the ramp's high end, as they are the better ones.
    """

    low: float
    high: float
    signed: bool = False
    decimals: int = 1
    falling: bool = False

    @classmethod
    def of(
        cls, values: Sequence[float], signed: bool = False, decimals: int = 1, *, falling: bool = False
    ) -> "Shading":
        """A shading from the lowest to the highest of some values, or from zero both ways."""
        if signed:
            reach = max((abs(value) for value in values), default=0.0) or 1.0
            return cls(-reach, reach, True, decimals, falling)
        low, high = min(values, default=0.0), max(values, default=1.0)
        return cls(low, high if high > low else low + 1.0, False, decimals, falling)

    def scale(self) -> Any:
        """The scale of the colours."""
        ramp: dict[str, Any] = {"range": "diverging"} if self.signed else {}
        return alt.Scale(domain=[self.low, self.high], reverse=self.falling, **ramp)


def heat_map(
    values: Mapping[tuple[str, str], float],
    rows: Sequence[str],
    columns: Sequence[str],
    shading: Shading,
    *,
    label: str,
    unit: str,
    row_title: str = "",
    column_title: str = "",
    names: Mapping[str, str] | None = None,
    heads: Mapping[str, str] | None = None,
    languages: bool = True,
    marked: Collection[tuple[str, str]] = (),
) -> Drawing:
    """Draws a heat map.

    Args:
        values: by row and column; a cell without one stays empty, with a dot.
        rows: from the top.
        columns: from the left.
        shading: colours and the decimals of the numbers.
        label: what it shows, for screen readers.
        unit: the name and unit of the values.
        row_title: what rows are.
        column_title: what columns are.
        names: what is written beside rows, where it is not their names; left out where there is no room.
        heads: what is written above columns, where it is not their names.
        languages: rows and columns are languages, which can be picked out.
        marked: cells with a dot in their corner; in the table a star.
    """
    names, heads = names or {}, heads or {}
    numbers = {place: number(value, shading.decimals) for place, value in values.items()}
    widest = max([width_of(text, _NUMBER) for text in numbers.values()], default=20.0)
    lines = [line for column in columns for line in heads.get(column, column).split("\n")]
    least = max(widest + 6, max(width_of(line) for line in lines) + 6, _LEAST)
    left = max([width_of(names.get(row, row)) for row in rows] + [30.0]) + 34
    if left + least * len(columns) > WIDTH:
        names, left = {}, max([width_of(row) for row in rows] + [24.0]) + 34
    data = [
        {"row": row, "column": column, "value": float(values[row, column]) if (row, column) in values else None}
        | ({"marked": True} if (row, column) in marked else {})
        for row in rows
        for column in columns
    ]
    focus = Focus(("row", "column") if languages else ())
    drawn = heat_layers(
        alt.Y(
            field="row",
            type="nominal",
            sort=list(rows),
            title=row_title or None,
            axis=_axis(named()),
        ),
        alt.X(
            field="column",
            type="nominal",
            sort=list(columns),
            title=column_title or None,
            axis=_axis(f"split({HEADS}[datum.label] || datum.label, '\\n')", orient="top", labelAngle=0),
        ),
        alt.Color(
            field="value",
            type="quantitative",
            scale=shading.scale(),
            legend=alt.Legend(
                title=unit, orient="bottom", direction="horizontal", format=f".{shading.decimals}f", tickCount=3
            ),
        ),
        f".{shading.decimals}f",
        size={"expr": f"min({_NUMBER}, {_NUMBER} * (bandwidth('x') - 2) / {widest:.1f})"},
        ink={"expr": _INK},
        tooltip=[
            alt.Tooltip(field="row", type="nominal", title=row_title or "row"),
            alt.Tooltip(field="column", type="nominal", title=column_title or "column"),
            alt.Tooltip(field="value", type="quantitative", title=unit, format=f".{shading.decimals}f"),
        ],
        opacity=focus.opacity(),
    )
    if marked:
        drawn += _dots(drawn, focus)
    drawn = drawn.add_params(alt.param(HEADS, value=dict(heads)))
    table = Table(
        (f"{row_title} ↓ {column_title} →" if row_title else "", *(" ".join(_lines(heads, c)) for c in columns)),
        tuple(
            (
                names.get(row, row),
                *(numbers.get((row, column), DASH) + "*" * ((row, column) in marked) for column in columns),
            )
            for row in rows
        ),
        unit,
    )
    drawn = finished(drawn.properties(height=_ROW * len(rows)), data, label, focus, names, table)
    # Cells grow with the room that there is, up to a size from which more of it would be wasted.
    wanted = left + min(max(least, (WIDTH - left) / len(columns)), 64.0) * len(columns)
    wanted = max(wanted, left + max(width_of(unit), 150.0))
    drawn.spec["width"] = round(min(wanted, max(WIDTH, left + least * len(columns))))
    return drawn


_INK = "isValid(datum.value) ? luminance(scale('color', datum.value)) > 0.179 ? '#000000' : '#ffffff' : '#808080'"
"""Black or white, whichever stands out more from the cell: equal at a relative luminance of 0.179 (WCAG 2)."""


def heat_layers(
    row: Any,
    column: Any,
    colour: Any,
    number_format: str,
    *,
    size: Any,
    ink: Any,
    tooltip: Any,
    opacity: Any,
) -> Any:
    """The layers of a heat map, of any data: shaded cells, and their numbers.

    Args:
        row: the channel of the rows.
        column: that of the columns.
        colour: that of the cells' colours, a number.
        number_format: how numbers are written.
        size: of the numbers' font.
        ink: the numbers' colour.
        tooltip: what a pointer on a cell shows.
        opacity: of cells and numbers.
    """
    value = colour.to_dict()["field"]
    known = f"isValid(datum['{value}'])"
    cells = (
        chart()
        .transform_filter(known)
        .mark_rect(cornerRadius=2)
        .encode(x=column, y=row, color=colour, tooltip=tooltip, opacity=opacity)
    )
    text = alt.condition(
        known, alt.Text(field=value, type="quantitative", format=number_format), alt.value("·"), empty=False
    )
    numbers = (
        chart()
        .mark_text(fontSize=size, color=ink, aria=False, tooltip=None)
        .encode(x=column, y=row, text=text, opacity=opacity)
    )
    return alt.layer(cells, numbers)


def _dots(drawn: Any, focus: Focus) -> Any:
    """A dot in the corner of marked cells, of the numbers' colour."""
    numbers = drawn.layer[1].encoding
    return (
        chart()
        .transform_filter("datum.marked")
        .mark_point(
            filled=True,
            size=12,
            opacity=1,
            color={"expr": _INK},
            xOffset={"expr": "bandwidth('x') / 2 - 5"},
            yOffset={"expr": "5 - bandwidth('y') / 2"},
            aria=False,
            tooltip=None,
        )
        .encode(x=numbers.x, y=numbers.y, opacity=focus.opacity())
    )


def _axis(expression: str, **options: Any) -> Any:
    return alt.Axis(
        domain=False, ticks=False, labelExpr=expression, labelOverlap=False, labelPadding=5, titlePadding=6, **options
    )


def _lines(heads: Mapping[str, str], column: str) -> list[str]:
    return heads.get(column, column).split("\n")
