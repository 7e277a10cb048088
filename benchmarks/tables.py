"""Formats results as a table for the terminal, and as Markdown for the docs."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.machine import as_sentence

HEADS = ("case", "median", "min to max", "time against", "also measured", "claim")


def screen_table(name: str, result: Mapping[str, Any]) -> Table:
    """Formats one benchmark's result for a terminal."""
    table = Table(title=f"{name}{' (quick: toy sizes)' if result['quick'] else ''}", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="right" if head in HEADS[1:3] else "left")
    for row in result["rows"]:
        cells = _cells(row)
        unmet = any(not claim["met"] for claim in row["claims"])
        table.add_row(*cells, style="bold red" if unmet else "")
    return table


def markdown(result: Mapping[str, Any]) -> str:
    """Formats one benchmark's result for the docs, without empty columns, and with the conditions of the run below.

    With ``columns``, each measured value has a column of its own.
    """
    if result.get("columns"):
        heads = tuple(dict.fromkeys(name for row in result["rows"] for name in row["values"]))
        cells = [
            [_value(row["values"][name]) if name in row["values"] else "" for name in heads] for row in result["rows"]
        ]
        rows = [("case", *heads), ("---", *["--:"] * len(heads))]
        rows += [(row["case"], *of_row) for row, of_row in zip(result["rows"], cells, strict=True)]
        return _lines(rows, result)
    rows = [HEADS, ("---", "--:", "--:", "---", "---", "---"), *(_cells(row) for row in result["rows"])]
    filled = [column for column in range(len(HEADS)) if any(row[column] for row in rows[2:])]
    return _lines([tuple(row[column] for column in filled) for row in rows], result)


def _lines(rows: Iterable[tuple[str, ...]], result: Mapping[str, Any]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    how = "Quick mode, toy sizes. " if result["quick"] else ""
    return "\n".join([*lines, "", f"{how}{_turns(result['rows'])}{as_sentence(result['machine'])}."])


def _turns(rows: Iterable[Mapping[str, Any]]) -> str:
    """The number of turns, which is smaller for slow cases."""
    counts = sorted({len(row["timing"]["turns_s"]) for row in rows if row["timing"]})
    if not counts:
        return ""
    least = f"{counts[0]} to " if len(counts) > 1 else ""
    return f"{least}{counts[-1]} turn{'s' * (counts[-1] > 1)}. "


def as_line(row: Mapping[str, Any]) -> str:
    """Formats one row, in JSON types, as a line of text, for printing rows as they are measured."""
    return " | ".join(cell for cell in _cells(row) if cell)


def write_into(page: Path, files: Iterable[Path]) -> list[str]:
    """Inserts tables of results between their markers, ``<!-- table NAME -->`` and ``<!-- end NAME -->``, in a page.

    Args:
        page: a Markdown file.
        files: files written by ``--json``; if several have the same benchmark, the last one wins.

    Returns:
        The benchmarks whose tables were written.

    Raises:
        LookupError: the page lacks the markers of a benchmark.
    """
    results: dict[str, Any] = {}
    for file in files:
        results |= json.loads(file.read_text(encoding="utf-8"))
    text = page.read_text(encoding="utf-8")
    for name, result in results.items():
        place = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        found = place.search(text)
        if found is None:
            raise LookupError(f"{page} has no place for {name}: add '<!-- table {name} -->' and '<!-- end {name} -->'")
        text = text[: found.end(1)] + f"\n{markdown(result)}\n\n" + text[found.start(2) :]
    page.write_text(text, encoding="utf-8")
    return list(results)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    timing = row["timing"]
    return (
        row["case"],
        _seconds(timing["median_s"]) if timing else "",
        f"{_seconds(timing['min_s'])} to {_seconds(timing['max_s'])}" if timing else "",
        f"{_ratio(row['ratio'])} {row['reference']}" if row["ratio"] is not None else "",
        "; ".join(f"{_value(value)} {name}" for name, value in row["values"].items()),
        "; ".join(f"{claim['text']}: {'met' if claim['met'] else 'NOT MET'}" for claim in row["claims"]),
    )


def _seconds(seconds: float) -> str:
    for scale, unit in ((1, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _ratio(ratio: float) -> str:
    return f"1/{1 / ratio:.3g}" if 0 < ratio < 0.6 else f"{ratio:.3g} x"


def _value(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
