"""Tables of the page."""

from collections.abc import Sequence
from html import escape

from lnsub.report.svg import tag


def rows_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Writes a table of plain text, which scrolls sideways where it is wider than the page.

    Args:
        head: the columns' names.
        body: a sequence of cells a row.

    Returns:
        Markup.
    """
    heads = tag("tr", *(tag("th", escape(cell), scope="col") for cell in head))
    rows = (tag("tr", *(tag("td", escape(cell)) for cell in row)) for row in body)
    return tag("div", tag("table", tag("thead", heads), tag("tbody", *rows)), class_="wide", tabindex=0)
