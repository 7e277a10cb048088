"""Formats rows (dicts) as a terminal table, CSV, JSON or Markdown."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lnsub.common.printable import printable, printable_json

Row = Mapping[str, Any]


def to_table(
    rows: Sequence[Row], columns: Sequence[str] | None = None, title: str = "", width: int | None = None
) -> str:
    """Formats rows as a table for the terminal.

    Args:
        rows: one dict per row; missing values and None are shown as a dash.
        columns: the columns to show, in order; None: all columns, in order of appearance.
        title: a line above the table.
        width: characters per line; None: as wide as necessary.

    Returns:
        The table as text without colours. Floats have four decimals, integers thousands separators.
    """
    # Importing rich takes longer than all other imports of the commands that read tickets.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    columns = _columns(rows) if columns is None else columns
    table = Table(title=title or None, title_justify="left", title_style="", box=SIMPLE_HEAD)
    for column in columns:
        numbers = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    text = io.StringIO()
    Console(file=text, width=width or 10_000, color_system=None, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def to_csv(rows: Sequence[Row]) -> str:
    """Formats rows as CSV with a header line: all columns, full precision, None as an empty cell.

    Text is as :func:`csv_cell` makes it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: csv_cell(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """Makes a cell's text harmless: for a spreadsheet, which runs what starts like a formula, and for a terminal.

    Args:
        value: any cell; what is no text, or is a number, comes back as it is.

    Returns:
        The text with control characters escaped, after an apostrophe where it would be a formula.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_json(rows: Sequence[Row]) -> str:
    """Formats rows as a JSON array of objects, None as null; raises ValueError for non-finite numbers."""
    return printable_json(json.dumps(list(rows), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def to_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of text as a Markdown table.

    Args:
        head: the names of the columns.
        rows: as many cells each, which are shown as they are but for bars and control characters.

    Returns:
        The table's lines, without a line break at the end.
    """
    lines = [head, ["---"] * len(head), *rows]
    cells = ([printable(cell).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))
