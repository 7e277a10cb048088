"""The table at the end of a run: sparsity, metric, change from dense, seconds."""

from rich.console import Console
from rich.table import Table

from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record


def rounds_table(records: list[Record], metric: str, title: str) -> Table:
    """Builds a table with one row per round.

    Args:
        records: one run's records of kind ``imp``.
        metric: the metric to show.
        title: the table's heading.
    """
    rows = sorted((r for r in records if r.metric == metric), key=lambda r: r.round or 0)
    dense = next((r.value for r in rows if not r.round), None)
    table = Table(title=title, title_justify="left")
    for heading in ("round", "sparsity", metric, "change", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        change = "" if dense is None or not row.round else f"{row.value - dense:+.4f}"
        table.add_row(str(row.round), f"{row.sparsity:.2f}", f"{row.value:.4f}", change, f"{row.wall_s:.1f}")
    return table


def print_rounds(folder: RunFolder, metric: str, console: Console | None = None) -> None:
    """Prints the results in a run's folder: the rounds of IMP, or one fine-tuning run."""
    console = console or Console()
    rounds = folder.records("imp")
    if rounds:
        first = rounds[0]
        console.print(rounds_table(rounds, metric, f"{first.task}/{first.target}, seed {first.seed}"))
    for kind in ("dense", "transfer"):
        for record in folder.records(kind):
            console.print(f"{kind} {record.task}/{record.target}: {record.metric} {record.value:.4f}", highlight=False)
    console.print(f"Run folder: {folder.path}", highlight=False, soft_wrap=True)
