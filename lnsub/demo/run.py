"""`lnsub demo`: a small study on the embedded model and data, and what it found in a few sentences."""

from collections.abc import Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lnsub.analysis.overlap.jaccard import overlap
from lnsub.common.errors import RunError, UserError
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record
from lnsub.study.display import Display
from lnsub.study.estimates import usable_cores
from lnsub.study.file import read_study
from lnsub.study.plan import Plan, make_plan
from lnsub.study.runner import run_study
from lnsub.tickets.ticket import Ticket

TASK = "wikiann"
METRIC = "f1"
TOLERANCE = 0.02
"""A drop below dense of up to this much counts as none: about two standard errors of F1 here."""


def demo(output: Path, languages: Sequence[str], jobs: int | None = None, console: Console | None = None) -> Path:
    """Runs the demo's study, `lnsub/demo/study.yaml`, and says what it found.

    Args:
        output: the study's folder.
        languages: at least two languages of the embedded data.
        jobs: jobs at once; None: as many as there are cores and languages.
        console: for tables; default: standard output.

    Returns:
        The page.

    Raises:
        UserError: fewer than two languages, or one that is not embedded.
        RunError: a job failed.
    """
    console = console or Console()
    home = Path(str(files("lnsub.demo")))
    embedded = sorted(path.name for path in (home / "data").iterdir() if path.is_dir())
    unknown = [language for language in languages if language not in embedded]
    if unknown or len(set(languages)) < 2:
        what = f"there is no embedded data for {unknown[0]}" if unknown else "the demo compares languages"
        raise UserError(f"{what}; name at least two of {', '.join(embedded)}.")
    overrides = [f"--output={output}", f"--tasks.{TASK}.languages=[{','.join(languages)}]"]
    plan = make_plan(read_study(home / "study.yaml", overrides))
    jobs = jobs or min(usable_cores(), len(languages))
    outcome = run_study(plan, jobs, Display(plan, jobs))
    if outcome.failed:
        name, reason = next(iter(outcome.failed.items()))
        raise RunError(f"{name} failed: {reason} (its log: {plan.own / 'jobs' / name / 'log.txt'})")
    _say_what_was_found(plan, languages, console)
    page = plan.study.page
    console.print(f"Tickets and records: {output}. Report: {page}", highlight=False, soft_wrap=True)
    return page


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


def _say_what_was_found(plan: Plan, languages: Sequence[str], console: Console) -> None:
    (seed,) = plan.study.seeds
    folders = {language: RunFolder.of(plan.folder, TASK, language, seed) for language in languages}
    rounds = {language: _rounds(folder) for language, folder in folders.items()}
    overlaps = _overlaps(folders, [record.sparsity for record in rounds[languages[0]][1:]])
    console.print(_table(rounds, overlaps))
    for sentence in findings(rounds, overlaps):
        console.print(sentence, highlight=False, soft_wrap=True)


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
