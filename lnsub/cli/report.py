"""`lnsub report`."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.options import add_inherited, comma_list

if TYPE_CHECKING:
    from lnsub.report.figure import Primary

_OF_RUNS = {
    "sparsities": "0.5,0.8",
    "split": "validation",
    "tolerance": None,
    "inherited": None,
    "wandb": None,
    "primary": None,
}
"""Options that are of a tree of runs alone, and their defaults."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Plots the results of a tree of runs on one self-contained page, with a CSV file for each figure.\n"
        "Figures without data are left out and listed on the page."
    )
    parser.add_argument(
        "runs", nargs="?", type=Path, metavar="RUNS", help="folder with runs, transfers and tickets, at any depth"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="F", help="the page (default: %(default)s)"
    )
    parser.add_argument(
        "--sparsities",
        default=_OF_RUNS["sparsities"],
        metavar="0.5,0.8",
        help="sparsities of heat maps and bar charts, or the nearest available ones (default: %(default)s)",
    )
    parser.add_argument("--split", default=_OF_RUNS["split"], help="split to show metrics of (default: %(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest drop from dense at which a ticket still matches it: 0.01 is one point of accuracy or F1, or 1 %% "
        "of perplexity (default: one standard deviation over seeds; with one seed, it must be non-inferior on the same "
        "examples, by one point or 5 %% of a perplexity)",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="instead of RUNS: the numbers that Foroutan et al. (2022) published, drawn as those of a study will be",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="also write each panel to this folder, as a file for a paper's column",
    )
    parser.add_argument("--format", metavar="pdf,svg,png", help="formats of those files (default: pdf)")
    add_inherited(parser)
    parser.add_argument(
        "--primary",
        metavar="TASK,SPARSITY,RUNS,RUNS[,MEASURE]",
        help="the primary endpoint, shown first: language against data sample (`lnsub overlap --contrast`) over two "
        "sets of runs, such as wikiann,0.5,seed57,seed57-sample1; the measure is departure_corrected by default, which "
        "needs --inherited",
    )
    parser.add_argument(
        "--wandb", metavar="[E/]P", help="also log the tables to this W&B project; offline without an API key"
    )
    parser.set_defaults(call=_run)


def _check_runs(options: argparse.Namespace) -> None:
    """Refuses neither, and whatever does not go with ``--published``."""
    from lnsub.common.errors import UserError

    if options.runs is None and not options.published:
        raise UserError("Name a folder with runs, or add --published for the paper's own numbers.")
    if not options.published:
        return
    if options.runs is not None:
        raise UserError(
            f"--published draws the paper's numbers alone: leave {options.runs} out. The report of runs on the paper's "
            "models has them beside its own."
        )
    for name, default in _OF_RUNS.items():
        if getattr(options, name) != default:
            raise UserError(f"--{name} is for a report of runs: leave it out with --published.")


def _primary(asked: str) -> "Primary":
    """The endpoint that ``--primary`` names."""
    from lnsub.analysis.overlap.by_shared import MEASURES
    from lnsub.common.errors import UserError
    from lnsub.report.figure import Primary

    parts = [part.strip() for part in asked.split(",")]
    try:
        task, sparsity, a, b = parts[0], float(parts[1]), parts[2], parts[3]
    except (IndexError, ValueError):
        sparsity, task, a, b = math.nan, "", "", ""
    if len(parts) > 5 or not (task and a and b) or a == b or not 0 < sparsity < 1:
        raise UserError(
            f"--primary takes a task, a sparsity between 0 and 1 and two sets of runs, such as "
            f"wikiann,0.5,seed57,seed57-sample1; it is '{asked[:120]}'."
        )
    measure = parts[4] if len(parts) > 4 else MEASURES[0]
    if measure not in MEASURES:
        raise UserError(f"--primary has the measure '{measure[:40]}', which is none of {', '.join(MEASURES)}.")
    return Primary(task, sparsity, (a, b), measure)


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError

    _check_runs(options)
    sparsities = tuple(comma_list("--sparsities", options.sparsities, float))
    if not sparsities or not all(0 < s < 1 for s in sparsities):
        raise UserError(f"--sparsities must be between 0 and 1, such as 0.5,0.8; it is '{options.sparsities}'.")
    if options.tolerance is not None and not 0 <= options.tolerance < 1:
        raise UserError(
            f"--tolerance must be at least 0 and below 1, such as 0.01 for one point; it is {options.tolerance:g}."
        )
    if options.output.suffix.lower() not in {".html", ".htm"}:
        raise UserError(f"--output must name a file that ends in .html; it is {options.output}.")
    if options.format is not None and options.figures is None:
        raise UserError("--format is for the files of --figures DIR: name a folder, or leave --format out.")
    primary = _primary(options.primary) if options.primary is not None else None
    formats = comma_list("--format", options.format) if options.format is not None else ["pdf"]
    files = {"figures": options.figures, "formats": tuple(form.lower() for form in formats)}

    from lnsub.common.printable import printable
    from lnsub.report import Options, published_report, report

    if options.published:
        made = published_report(options.output, **files)
    else:
        chosen = Options(sparsities, options.tolerance, primary)
        made = report(options.runs, options.output, chosen, options.split, options.inherited, **files)
    for note in made.notes:
        sys.stderr.write(f"lnsub: {printable(note)}\n")
    sys.stdout.write(f"{len(made.drawn)} figures: {made.page} (data: {len(made.data)} CSV files next to it)\n")
    if options.figures is not None:
        sys.stdout.write(f"{len(made.files)} files for a paper: {options.figures}\n")
    if made.left_out:
        sys.stdout.write(f"Left out for lack of data: {', '.join(made.left_out)}\n")
    if options.wandb:
        from lnsub.tracking.report_tables import log_tables

        log_tables(made.tables, options.wandb, options.runs)
        sys.stdout.write(f"{len(made.tables)} tables: W&B project {options.wandb}\n")
    return 0
