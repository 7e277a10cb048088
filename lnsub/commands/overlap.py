"""`lnsub overlap`."""

import argparse
import sys
from pathlib import Path

COLUMNS = ("a", "b", "layer", "kind", "matrix", "overlap", "chance", "corrected", "density_a", "density_b")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Compares tickets weight by weight: the Jaccard similarity of each pair, the overlap that chance gives at those\n"
        "densities, and what is left of it: (overlap - chance) / (1 - chance)."
    )
    parser.add_argument("tickets", nargs="+", type=Path, metavar="TICKET")
    parser.add_argument("--by", default="", metavar="layer,kind", help="also by layer, kind (query, key, ...), matrix or stack")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument("--output", type=Path, metavar="F", help="write to a file instead of standard output")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.errors import UserError
    from lnsub.overlap import coverage, pairwise
    from lnsub.tables import to_csv, to_json, to_table
    from lnsub.tickets import Ticket

    if len(options.tickets) < 2:
        raise UserError("an overlap is of two tickets or more: name at least two files.")
    tickets = [Ticket.load(path) for path in options.tickets]
    whole = pairwise(tickets)
    by = [part.strip() for part in options.by.split(",") if part.strip()]
    rows = whole + pairwise(tickets, by=by) if by else whole
    if options.format == "table":
        columns = [name for name in COLUMNS if any(name in row for row in rows)]
        text = to_table(rows, columns=columns) + coverage(whole) + "\n"
    else:
        text = to_csv(rows) if options.format == "csv" else to_json(rows)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0
