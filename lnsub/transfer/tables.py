"""The tables at the end of a transfer: sources by targets, one table per sparsity."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from statistics import mean
from typing import Any

from rich.table import Table

from lnsub.runs.records import Record
from lnsub.tasks.task import Task
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


def recovered_lines(cells: Iterable[tuple[Cell, Sequence[Record]]], task: Task, split: str = "validation") -> list[str]:
    """Says what foreign tickets recover of what own ones add to the inherited mask, a sentence for each sparsity.

    Args:
        cells: the cells with their records.
        task: the task, whose main metric is taken.
        split: the split.

    Returns:
        Nothing where tickets on their own and on other languages and the inherited mask were not all measured, or where
        tickets of several tasks, scores or scopes would be mixed. Combined tickets and those of runs under a condition
        do not count.
    """
    counted = [
        (cell, records)
        for cell, records in cells
        if cell.kind == "transfer" and (cell.variant == "inherited" or (cell.variant == "ticket" and _is_plain(cell)))
    ]
    tickets = [cell.found.provenance for cell, _ in counted if cell.variant == "ticket" and cell.found]
    if len({(p.task, p.ranked_by, p.scope) for p in tickets}) != 1 or tickets[0].task != task.name:
        return []
    rows = [
        (cell.variant, cell.source, record.target, cell.sparsity, cell.seed, record.value)
        for cell, records in counted
        for record in records
        if record.metric == task.metric and record.split == split and record.kind == "transfer"
    ]

    # Nothing else of a transfer needs pandas.
    import pandas as pd

    from lnsub.analysis.recovered import recovered_cells, recovered_shares

    frame = pd.DataFrame(rows, columns=["variant", "source", "target", "sparsity", "seed", "value"])
    shares = recovered_shares(recovered_cells(frame, task.higher_is_better))
    return [_recovered(row) for row in shares.to_dict("records")]


def _is_plain(cell: Cell) -> bool:
    """Whether a cell's ticket was found by a plain run, and not combined of several."""
    return cell.found is not None and not cell.found.provenance.sources and not cell.found.provenance.condition


def _recovered(row: Mapping[Any, Any]) -> str:
    at = f"At sparsity {row['sparsity']:g}"
    if row["share"] is None or isnan(row["share"]):
        return f"{at} there is no recovered share: {row['interval']}."
    interval = (
        ""
        if row["share_low"] is None or isnan(row["share_low"])
        else f"95 %: {row['share_low']:.2f} to {row['share_high']:.2f}, "
    )
    return (
        f"{at} foreign tickets recover {row['share']:.2f} of what own ones add to the inherited mask "
        f"({interval}{row['interval']})."
    )
