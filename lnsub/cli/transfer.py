"""`lnsub transfer`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.fit_settings import add_config, add_settings, check_settings, parse_config
from lnsub.cli.options import comma_list

if TYPE_CHECKING:
    from lnsub.transfer.runner import Transfer

_SET_BY_CELLS = {"--seed_everything", "--output", "--model.ticket"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from lnsub.transfer.baselines import BASELINES

    parser.usage = (
        "lnsub transfer --config C --tickets GLOB --languages a,b,c --output DIR [OPTIONS] [-- SETTING...]\n"
        "       e.g. lnsub transfer --config configs/xnli_fr.yaml --tickets 'runs/xnli/*/seed57/tickets/s0.50.*'\n"
        "            --languages fr,ur,zh --output runs/transfer -- --trainer.max_epochs=1"
    )
    width = max(map(len, BASELINES))
    parser.description = (
        "Fine-tunes each ticket on each language, from theta_0 and with a configuration of `lnsub fit` (without its\n"
        "IMPCallback). Run again, it does what is missing or failed. Exit status 1: a cell failed; 75: stopped by a\n"
        "signal.\n\n"
        "baselines:\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in BASELINES.items())
    )
    add_config(parser)
    parser.add_argument(
        "--tickets", nargs="+", required=True, metavar="GLOB", help="ticket files of one base model, from any task"
    )
    parser.add_argument("--languages", required=True, metavar="a,b,c", help="target languages")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for cells and records")
    parser.add_argument(
        "--seeds", default="", metavar="57,58", help="seeds of each cell (default: the configuration's)"
    )
    parser.add_argument("--sparsities", default="", metavar="0.5,0.8", help="only tickets of these sparsities")
    parser.add_argument(
        "--baselines", default="", metavar="random,...", help="baselines to compare the tickets with, see above"
    )
    parser.add_argument(
        "--baselines-on",
        metavar="a,b",
        help="only on these languages: baselines that all tickets share (dense, random, inherited)",
    )
    parser.add_argument(
        "--zero-shot", action="store_true", help="fine-tune only on each ticket's language, evaluate on all targets"
    )
    parser.add_argument("--test", action="store_true", help="also evaluate on test splits where they exist")
    parser.add_argument("--keep-checkpoints", action="store_true", help="keep each cell's trained weights")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--list", action="store_true", help="print the numbered cells with their state, and exit")
    which.add_argument("--cell", type=int, metavar="N", help="run one cell (for a SLURM array)")
    which.add_argument(
        "--share", metavar="N/M", help="run every M-th cell, from cell N on (for a SLURM array of M tasks, N from 1)"
    )
    add_settings(parser)
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.tickets.finding import find_tickets

    why = "differs between cells, so it cannot be set for all of them"
    check_settings(options.settings, _SET_BY_CELLS, "--trainer.max_epochs=1", why)
    share = _share(options.share) if options.share else None
    seeds = comma_list("--seeds", options.seeds, int)
    tickets = find_tickets(options.tickets, comma_list("--sparsities", options.sparsities, float) or None)

    # The following imports torch, which takes seconds.
    from lnsub.common.launcher import is_first_process
    from lnsub.training.logging_setup import set_up_logging
    from lnsub.transfer.runner import Transfer

    set_up_logging()
    languages = comma_list("--languages", options.languages)
    transfer = Transfer(
        options.output,
        parse_config(options, languages),
        tickets,
        languages,
        seeds=seeds,
        baselines=comma_list("--baselines", options.baselines),
        baselines_on=None if options.baselines_on is None else comma_list("--baselines-on", options.baselines_on),
        zero_shot=options.zero_shot,
        test=options.test,
        keep_checkpoints=options.keep_checkpoints,
    )
    if options.list:
        return _list(transfer)
    chosen = None
    if options.cell is not None:
        chosen = [options.cell]
    elif share is not None:
        chosen = list(range(share[0], len(transfer.cells) + 1, share[1]))
    outcome = transfer.run(chosen)
    if is_first_process():
        _report(transfer, chosen)
    for number in outcome.failed:
        cell = transfer.cells[number - 1]
        sys.stderr.write(f"lnsub: cell {number} failed: {cell.id}: {transfer.folder(cell).reason()}\n")
    if outcome.in_use:
        numbers = ", ".join(map(str, outcome.in_use))
        sys.stderr.write(f"lnsub: in use by another process: cell {numbers}\n")
    if outcome.failed:
        total = len(transfer.cells if chosen is None else chosen)
        sys.stderr.write(f"lnsub: {len(outcome.failed)} of {total} cells failed; the same command retries them.\n")
    return 1 if outcome.failed or (outcome.in_use and chosen is not None) else 0


def _list(transfer: "Transfer") -> int:
    transfer.check()
    states = [transfer.state(cell) for cell in transfer.cells]
    width = len(str(len(states)))
    for number, (cell, state) in enumerate(zip(transfer.cells, states, strict=True), start=1):
        sys.stdout.write(f"{number:>{width}}  {state:<7}  {cell.id}\n")
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "missing", "failed"))
    sys.stderr.write(f"{len(states)} cells: {counts}\n")
    return 0


def _report(transfer: "Transfer", chosen: list[int] | None) -> None:
    from rich.console import Console

    from lnsub.transfer.tables import recovered_lines, transfer_tables

    console = Console()
    cells = transfer.cells if chosen is None else [transfer.cells[number - 1] for number in chosen]
    recorded = [(cell, records) for cell in cells if (records := transfer.records(cell))]
    if chosen is None and recorded:
        for table in transfer_tables(recorded, transfer.languages, transfer.fit.task.metric):
            console.print(table)
        for line in recovered_lines(recorded, transfer.fit.task):
            console.print(line, highlight=False, soft_wrap=True)
    else:
        for cell, records in recorded:
            for r in records:
                console.print(f"{cell.row} → {r.target}: {r.split} {r.metric} {r.value:.4f}", highlight=False)
    console.print(f"Cells: {transfer.output / 'cells'}", highlight=False, soft_wrap=True)


def _share(text: str) -> tuple[int, int]:
    """Parses ``N/M``."""
    from lnsub.common.errors import UserError

    number, _, of = text.partition("/")
    plain = number.isdecimal() and of.isdecimal() and len(text) < 20
    if not plain or not 1 <= int(number) <= int(of):
        raise UserError(f"--share takes N/M with N from 1 to M, such as 3/10, not '{text[:40]}'.")
    return int(number), int(of)
