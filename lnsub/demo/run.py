"""`lnsub demo`: tickets for several languages on the embedded model and data, compared, transferred and drawn."""

import time
from collections.abc import Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lnsub.analysis.overlap.jaccard import overlap
from lnsub.common.errors import UserError
from lnsub.common.files import check_output, starts_with
from lnsub.demo.figure import draw
from lnsub.report import report
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record
from lnsub.tickets.finding import find_tickets
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.run import set_up
from lnsub.training.config import RunConfig
from lnsub.training.logging_setup import set_up_logging
from lnsub.training.summary import print_rounds
from lnsub.transfer.runner import Transfer

SEED = 57
TASK = "wikiann"
METRIC = "f1"
TRANSFERRED = 0.5
"""The sparsity of the tickets that are fine-tuned on the other languages."""
TOLERANCE = 0.02
"""A drop below dense of up to this much counts as none: about two standard errors of F1 here."""


def demo(output: Path, languages: Sequence[str], console: Console | None = None) -> Path:
    """Runs IMP for each language, compares the tickets, fine-tunes each on the others, and makes the report.

    Finished runs and transfers are not repeated.

    Args:
        output: the folder for runs, figure and report.
        languages: at least two languages of the embedded data.
        console: for tables; default: standard output.

    Returns:
        The figure's path.

    Raises:
        UserError: fewer than two languages, or one that is not embedded; or the figure's name is another file's.
    """
    set_up_logging()
    console = console or Console()
    home = Path(str(files("lnsub.demo")))
    embedded = sorted(path.name for path in (home / "data").iterdir() if path.is_dir())
    unknown = [language for language in languages if language not in embedded]
    if unknown or len(set(languages)) < 2:
        what = f"there is no embedded data for {unknown[0]}" if unknown else "the demo compares languages"
        raise UserError(f"{what}; name at least two of {', '.join(embedded)}.")
    check_output(output / "demo.png", "a figure of the demo", lambda path: b"Matplotlib" in starts_with(path))
    start = time.perf_counter()
    for language in languages:
        _find_tickets(home, output, language)
    folders = {language: RunFolder.of(output, TASK, language, SEED) for language in languages}
    rounds = {language: _rounds(folder) for language, folder in folders.items()}
    overlaps = _overlaps(folders, [record.sparsity for record in rounds[languages[0]][1:]])
    console.print(_table(rounds, overlaps))
    _transfer(home, output, languages)
    figure = draw(rounds, overlaps, output / "demo.png")
    page = report(output, output / "report.html", inherited_from=str(home / "model")).page
    for sentence in findings(rounds, overlaps):
        console.print(sentence, highlight=False, soft_wrap=True)
    seconds = time.perf_counter() - start
    summary = f"{seconds:.0f} s. Tickets and records: {output}. Figure: {figure}. Report: {page}"
    console.print(summary, highlight=False, soft_wrap=True)
    return figure


def findings(rounds: dict[str, list[Record]], overlaps: dict[float, tuple[float, float]]) -> list[str]:
    """Summarises the results in sentences.

    Args:
        rounds: each language's records of the main metric, in round order; the first is dense.
        overlaps: mean overlap and its chance level, by sparsity.
    """
    sentences = []
    for language, records in rounds.items():
        dense, last = records[0].value, records[-1]
        matching = [record.sparsity for record in records if record.value >= dense - TOLERANCE]
        sentences.append(
            f"{language}: F1 is {dense:.3f} dense, within {TOLERANCE} of it or better up to sparsity "
            f"{max(matching):.1f}, and {last.value:.3f} at {last.sparsity:.1f}."
        )
    above = [sparsity for sparsity, (found, chance) in overlaps.items() if found > chance]
    sparsity, (found, chance) = list(overlaps.items())[-1]
    sentences.append(
        f"Tickets of different languages overlap more than chance at {len(above)} of {len(overlaps)} sparsities; "
        f"at {sparsity:.1f} the mean overlap is {found:.3f}, the chance level {chance:.3f}."
    )
    return sentences


def _find_tickets(home: Path, output: Path, language: str) -> None:
    run = set_up(_config(home, output, language))
    run.fit()
    if run.trainer.is_global_zero:
        print_rounds(run.folder, METRIC)


def _transfer(home: Path, output: Path, languages: Sequence[str]) -> None:
    """Fine-tunes each ticket, and random masks of the same density, on each language."""
    tickets = [str(RunFolder.of(output, TASK, language, SEED).ticket(TRANSFERRED)) for language in languages]
    Transfer(
        output / "transfer",
        _config(home, output, languages[0]),
        find_tickets(tickets),
        list(languages),
        seeds=[SEED],
        baselines=["random"],
    ).run()


def _config(home: Path, output: Path, language: str) -> RunConfig:
    """The settings of one language's run, with the embedded model and data."""
    settings = {
        "model.base_model": home / "model",
        "data.init_args.dataset": home / "data",
        "data.init_args.language": language,
        "seed_everything": SEED,
        "output": output,
    }
    return RunConfig.parse([f"--config={home / 'demo.yaml'}", *(f"--{key}={value}" for key, value in settings.items())])


def _rounds(folder: RunFolder) -> list[Record]:
    found = [record for record in folder.records("imp") if record.metric == METRIC]
    return sorted(found, key=lambda record: record.round or 0)


def _overlaps(folders: dict[str, RunFolder], sparsities: Sequence[float]) -> dict[float, tuple[float, float]]:
    """The mean overlap over pairs of languages and its chance level, by sparsity."""
    found = {}
    for sparsity in sparsities:
        rows = overlap([Ticket.load(folder.ticket(sparsity)) for folder in folders.values()])
        assert len(rows) == len(list(combinations(folders, 2)))
        found[sparsity] = (
            sum(row["overlap"] for row in rows) / len(rows),
            sum(row["chance"] for row in rows) / len(rows),
        )
    return found


def _table(rounds: dict[str, list[Record]], overlaps: dict[float, tuple[float, float]]) -> Table:
    table = Table(title="NER on the embedded sentences: F1 of each round, and how far the tickets overlap")
    for heading in ("sparsity", *(f"F1 {language}" for language in rounds), "overlap", "by chance"):
        table.add_column(heading, justify="right")
    for records in zip(*rounds.values(), strict=True):
        sparsity = records[0].sparsity
        shown = [f"{value:.3f}" for value in overlaps.get(sparsity, ())]
        table.add_row(f"{sparsity:.1f}", *(f"{record.value:.3f}" for record in records), *shown)
    return table
