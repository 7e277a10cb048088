"""`lnsub ablate`."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.fit_settings import add_config, add_settings, check_settings, parse_config
from lnsub.cli.options import comma_list, named

if TYPE_CHECKING:
    from lnsub.analysis.ablation.plan import Ablation, Step


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.usage = (
        "lnsub ablate --config C --tickets GLOB --languages a,b,c --output DIR [OPTIONS] [-- SETTING...]\n"
        "       e.g. lnsub ablate --config configs/mlm_en.yaml --tickets 'tickets/*.safetensors' --languages en,fr,zh\n"
        "            --examples 32 --output runs/ablation"
    )
    parser.description = (
        "Takes away from theta_0 (or a fine-tuned model) what each ticket names, and measures every language without\n"
        "it, beside as many units drawn at random from the same places. Nothing is trained. Prints each language's\n"
        "drop of the main metric (of a perplexity: the rise of its logarithm), and how much more a language loses by\n"
        "its own ticket than the others do. Run again, it measures what is missing."
    )
    add_config(parser)
    parser.add_argument(
        "--tickets", nargs="+", required=True, metavar="GLOB", help="ticket files of one base model, also combined ones"
    )
    parser.add_argument("--sparsities", default="", metavar="0.5,0.8", help="only tickets of these sparsities")
    parser.add_argument("--languages", required=True, metavar="a,b,c", help="languages to measure")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the records")
    parser.add_argument(
        "--remove",
        choices=["kept", "pruned", "departure"],
        default="kept",
        help="what a ticket keeps; what it prunes, as applying it does; or what it keeps and --inherited does not "
        "(default: kept)",
    )
    parser.add_argument(
        "--inherited",
        nargs="+",
        default=[],
        metavar="GLOB",
        help="for departure: the masks to depart from, one or one for each sparsity, such as that of the pooled "
        "calibration sample (default: theta_0's magnitude masks, made here)",
    )
    parser.add_argument(
        "--fill",
        choices=["zero", "mean"],
        default="zero",
        help="what a removed weight gives: nothing, or its mean over a sample of all languages (default: zero)",
    )
    parser.add_argument(
        "--sample", type=int, default=256, metavar="N", help="rows of the train splits for --fill mean (default: 256)"
    )
    parser.add_argument(
        "--draws", type=int, default=5, metavar="N", help="random removals beside each ticket's (default: 5)"
    )
    parser.add_argument(
        "--examples", type=int, metavar="N", help="rows (of text: blocks) of each language's split (default: all)"
    )
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument(
        "--checkpoint", type=named, metavar="F", help="weights of a fine-tuned model, which tasks with a head need"
    )
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table", help="of what is printed")
    add_settings(parser)
    parser.set_defaults(call=_run)


_SET_HERE = {"--output", "--model.ticket"}


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.runs.records import check_records
    from lnsub.tickets.finding import find_tickets

    why = "is not for `lnsub ablate`, which has options of its own for it"
    check_settings(options.settings, _SET_HERE, "--model.base_model=M", why)
    if options.inherited and options.remove != "departure":
        raise UserError("--inherited names what a departure is from: add --remove departure, or leave it out.")
    languages = comma_list("--languages", options.languages)
    check_records(options.output)
    tickets = find_tickets(options.tickets, comma_list("--sparsities", options.sparsities, float) or None)
    references = [found.load() for found in find_tickets(options.inherited)] if options.inherited else []

    # The following imports torch, which takes seconds.
    from lnsub.analysis.ablation.plan import Ablation, Settings
    from lnsub.training.logging_setup import set_up_logging

    set_up_logging()
    settings = Settings(
        remove=options.remove,
        fill=options.fill,
        draws=options.draws,
        examples=options.examples,
        sample=options.sample,
        split=options.split,
    )
    config = parse_config(options, languages)
    ablation = Ablation(
        options.output,
        config,
        tickets,
        languages,
        settings,
        checkpoint=options.checkpoint,
        references=references,
    )
    with _shown(ablation) as after:
        ablation.run(after)
    sys.stdout.write(_text(ablation, options.format))
    return 0


def _text(ablation: "Ablation", kind: str) -> str:
    from lnsub.analysis.ablation.text import ablation_rows, ablation_text
    from lnsub.common.tables import to_csv, to_json

    records = ablation.records()
    if kind == "table":
        return f"{ablation_text(records, ablation.languages)}\nRecords: {ablation.results}\n"
    return (to_csv if kind == "csv" else to_json)(ablation_rows(records))


@contextmanager
def _shown(ablation: "Ablation") -> "Iterator[Callable[[Step, str, dict[str, float]], None]]":
    """A live line with the time left in a terminal, or a line for each measurement in a log file."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lnsub.common.progress_file import note_progress

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    total = sum(len(step.languages) for step in ablation.steps())
    metric = ablation.task.metric
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        done = 0

        def after(step: "Step", language: str, metrics: dict[str, float]) -> None:
            nonlocal done
            done += 1
            progress.update(task, description=f"{step.name} on {language}", advance=1)
            note_progress(f"{step.name} on {language}", done / total, progress.tasks[0].time_remaining)
            if not console.is_terminal:
                line = f"{done}/{total} {step.name} on {language}: {metric} {metrics[metric]:.4f}"
                console.print(line, soft_wrap=True)

        yield after
