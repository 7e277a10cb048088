"""HTML tables."""

from collections.abc import Sequence
from html import escape

from lnsub.charts.drawing import DASH, Table
from lnsub.report.markup import tag

__all__ = ["DASH", "panel_table", "rows_table"]

FOLDED = 16
"""Tables with more rows than this are folded."""

LONGEST = 150
"""Rows of a panel's table; the CSV file has all."""


def rows_table(head: Sequence[str], body: Sequence[Sequence[str]], folded: str = "") -> str:
    """Writes a table of plain text, which scrolls sideways where it is wider than the page.

    Args:
        head: the columns' names.
        body: a sequence of cells a row.
        folded: the line that unfolds a long table; empty leaves the table open.

    Returns:
        Markup.
    """
    heads = tag("tr", *(tag("th", escape(cell), scope="col") for cell in head))
    rows = (tag("tr", *(tag("td", escape(cell)) for cell in row)) for row in body)
    table = tag("div", tag("table", tag("thead", heads), tag("tbody", *rows)), class_="wide", tabindex=0)
    return tag("details", tag("summary", escape(folded)), table) if folded and len(body) > FOLDED else table


def panel_table(title: str, table: Table, csv: str) -> str:
    """Writes the numbers of a panel, its first :data:`LONGEST` rows.

    Args:
        title: the panel's.
        table: its numbers.
        csv: the file that has all of them.
    """
    heads = tag("tr", *(tag("th", escape(cell), scope="col") for cell in table.head))
    rows = (
        tag("tr", tag("th", escape(row[0]), scope="row"), *(tag("td", escape(cell)) for cell in row[1:]))
        for row in table.body[:LONGEST]
    )
    caption = escape(title if table.unit in title else f"{title}: {table.unit}")
    if len(table.body) > LONGEST:
        link = tag("a", escape(csv), href=csv)
        caption += f": the first {LONGEST} of {len(table.body):,} rows; all are in {link}"
    whole = tag("table", tag("caption", caption), tag("thead", heads), tag("tbody", *rows))
    return tag("div", whole, class_="wide", tabindex=0)
