"""`lnsub report`."""

import argparse
import sys
from pathlib import Path

from lnsub.cli.options import add_inherited, comma_list


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Plots the results of a tree of runs on one self-contained page, with a CSV file for each figure.\n"
        "Figures without data are left out and listed on the page."
    )
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder with runs, transfers and tickets, at any depth")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="F", help="the page (default: %(default)s)"
    )
    parser.add_argument(
        "--sparsities",
        default="0.5,0.8",
        metavar="0.5,0.8",
        help="sparsities of heat maps and bar charts, or the nearest available ones (default: %(default)s)",
    )
    parser.add_argument("--split", default="validation", help="split to show metrics of (default: %(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest drop from dense at which a ticket still matches it: 0.01 is one point of accuracy or F1, or 1 %% "
        "of perplexity (default: one standard error, or for perplexity one standard deviation over seeds)",
    )
    add_inherited(parser)
    parser.add_argument(
        "--wandb", metavar="[E/]P", help="also log the tables to this W&B project; offline without an API key"
    )
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError

    sparsities = tuple(comma_list("--sparsities", options.sparsities, float))
    if not sparsities or not all(0 < s < 1 for s in sparsities):
        raise UserError(f"--sparsities must be between 0 and 1, such as 0.5,0.8; it is '{options.sparsities}'.")
    if options.tolerance is not None and not 0 <= options.tolerance < 1:
        raise UserError(
            f"--tolerance must be at least 0 and below 1, such as 0.01 for one point; it is {options.tolerance:g}."
        )
    if options.output.suffix.lower() not in {".html", ".htm"}:
        raise UserError(f"--output must name a file that ends in .html; it is {options.output}.")

    from lnsub.common.printable import printable
    from lnsub.report import Options, report

    made = report(
        options.runs, options.output, Options(sparsities, options.tolerance), options.split, options.inherited
    )
    for note in made.notes:
        sys.stderr.write(f"lnsub: {printable(note)}\n")
    sys.stdout.write(f"{len(made.drawn)} figures: {made.page} (data: {len(made.data)} CSV files next to it)\n")
    if made.left_out:
        sys.stdout.write(f"Left out for lack of data: {', '.join(made.left_out)}\n")
    if options.wandb:
        from lnsub.tracking.report_tables import log_tables

        log_tables(made.tables, options.wandb, options.runs)
        sys.stdout.write(f"{len(made.tables)} tables: W&B project {options.wandb}\n")
    return 0
