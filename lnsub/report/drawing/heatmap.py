"""Heat maps with the numbers in their cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lnsub.report.drawing.axes import WIDTH, number
from lnsub.report.drawing.colours import Shade, diverging, sequential
from lnsub.report.drawing.svg import drawing, tag, text, width_of

_ROW = 30.0
_HEAD = 42.0  # with a line for what the axes are and two for the columns


@dataclass(frozen=True)
class Shading:
    """How values become colours, the same in all heat maps that are to be compared.

    Args:
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

    def __call__(self, value: float) -> Shade:
        """The colours of a cell."""
        if self.signed:
            return diverging((-value if self.falling else value) / self.high)
        share = (value - self.low) / (self.high - self.low)
        return sequential(1 - share if self.falling else share)

    def key(self, unit: str) -> str:
        """A legend: the ramp between its two ends."""
        shades = [self(self.low + (self.high - self.low) * step / 8) for step in range(9)]
        ramp = [
            tag("rect", x=float(10 * place), y=0, width=10.5, height=12, class_="cell", style=shade.style)
            for place, shade in enumerate(shades)
        ]
        bar = tag("svg", *ramp, viewBox="0 0 90 12", width=90, height=12, aria_hidden="true", class_="swatch")
        ends = [number(end, self.decimals) for end in (self.low, self.high)]
        return tag("p", f"{escape(ends[0])} ", bar, f" {escape(ends[1])} {escape(unit)}", class_="key")


def heat_map(
    values: Mapping[tuple[str, str], float],
    rows: Sequence[str],
    columns: Sequence[str],
    shading: Shading,
    *,
    label: str,
    axes: str = "",
    row_label: Callable[[str], str] = str,
    column_label: Callable[[str], str] = str,
) -> str:
    r"""Draws a heat map.

    Args:
        values: by row and column; a cell without one stays empty, with a dot.
        rows: from the top.
        columns: from the left.
        shading: colours and the decimals of the numbers.
        label: what it shows, for screen readers.
        axes: what rows and columns are, written above.
        row_label: what is written beside a row.
        column_label: what is written above a column; ``\n`` separates two lines.

    Returns:
        An ``svg`` element.
    """
    numbers = {place: number(value, shading.decimals) for place, value in values.items()}
    widest = max([width_of(n, 11) for n in numbers.values()], default=20.0)
    heads = [part for column in columns for part in column_label(column).split("\n")]
    least = max(widest + 6, max(width_of(head, 11) for head in heads) + 6, 28.0)
    left = max([width_of(row_label(row)) for row in rows] + [30.0]) + 12
    if left + least * len(columns) > WIDTH and row_label is not str:
        # Where there is little room, rows are labelled with their codes alone.
        row_label, left = str, max([width_of(row) for row in rows] + [24.0]) + 12
    cell = min(max(least, (WIDTH - left - 2) / len(columns)), 58.0)
    head = _HEAD if axes else _HEAD - 18
    parts = [text(2, 9, axes, class_="t name")] if axes else []
    for j, column in enumerate(columns):
        lines = column_label(column).split("\n")
        for k, line in enumerate(lines):
            y = head - 9 - 12 * (len(lines) - 1 - k)
            parts.append(text(left + cell * (j + 0.5), y, line, anchor="middle", class_="t n"))
    for i, row in enumerate(rows):
        top = head + _ROW * i
        parts.append(text(left - 8, top + _ROW / 2, row_label(row), anchor="end"))
        for j, column in enumerate(columns):
            x = left + cell * j
            if (row, column) not in values:
                parts.append(text(x + cell / 2, top + _ROW / 2, "·", anchor="middle", class_="t n faint"))
                continue
            style = shading(values[row, column]).style
            tip = tag("title", escape(f"{row} → {column}: {numbers[row, column]}"))
            box = tag("rect", x=x, y=top, width=cell - 1, height=_ROW - 1, rx=2, class_="cell")
            written = text(x + (cell - 1) / 2, top + _ROW / 2 - 0.5, numbers[row, column], anchor="middle", class_="n")
            parts.append(tag("g", tip, box, written, style=style))
    width = max(left + cell * len(columns), width_of(axes) + 6)
    return drawing(width, head + _ROW * len(rows) + 2, label, *parts)
