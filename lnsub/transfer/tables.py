"""The tables at the end of a transfer: sources by targets, one table per sparsity."""

from collections.abc import Iterable, Sequence
from statistics import mean

from rich.table import Table

from lnsub.runs.records import Record
from lnsub.transfer.cells import Cell


def transfer_tables(
    cells: Iterable[tuple[Cell, Sequence[Record]]], targets: Sequence[str], metric: str, split: str = "validation"
) -> list[Table]:
    """Builds the tables of recorded results.

    Args:
        cells: the cells with their records.
        targets: the columns.
        metric: the metric to show.
        split: the split to show.

    Returns:
        One table per sparsity, with a row for each source and baseline; values are means over seeds and tickets. The
        dense model is in each table.
    """
    values: dict[float, dict[str, dict[str, list[float]]]] = {}
    seeds = set()
    for cell, records in cells:
        seeds.add(cell.seed)
        row = values.setdefault(round(cell.sparsity, 6), {}).setdefault(cell.row, {})
        for record in records:
            if record.metric == metric and record.split == split:
                row.setdefault(record.target, []).append(record.value)
    dense = values.pop(0.0, {})
    over = f", mean over {len(seeds)} seeds" if len(seeds) > 1 else ""
    tables = []
    for sparsity, rows in sorted(values.items()) or [(0.0, {})]:
        table = Table(title=f"{metric} at sparsity {sparsity:g} on {split}{over}", title_justify="left")
        table.add_column("source \\ target")
        for target in targets:
            table.add_column(target, justify="right")
        for name, row in [*rows.items(), *dense.items()]:
            table.add_row(name, *(f"{mean(row[target]):.4f}" if row.get(target) else "·" for target in targets))
        tables.append(table)
    return tables
