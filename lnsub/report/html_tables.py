"""HTML tables."""

from collections.abc import Sequence
from html import escape

from lnsub.report.drawing.svg import tag

DASH = "\u2013"
"""Shown where there is no value."""

FOLDED = 16
"""Tables with more rows than this are folded."""


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
