"""The jobs of a study's sentences: retrieval and similarity, dense and under tickets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.runs.folder import RunFolder
from lnsub.study.commands import fetch_sentences_args, sentence_args
from lnsub.study.job import Job
from lnsub.study.leaves import FileLeft
from lnsub.study.settings import SentenceStudy, Study

if TYPE_CHECKING:
    from lnsub.study.facts import TaskFacts


def sentence_jobs(
    study: Study, facts: "Mapping[str, TaskFacts]", fits: Mapping[tuple[str, str, int], str]
) -> Iterator[Job]:
    """Makes the jobs of retrieval and similarity: dense models, then each source's tickets, or each task's together.

    Args:
        study: the study.
        facts: what its configurations say, by task.
        fits: the name of the job that finds the tickets of each source (task, language and seed), in order.
    """
    for command, chosen in (("retrieve", study.retrieval), ("similarity", study.similarity)):
        if chosen is None:
            continue
        folder = study.folder / command
        models: dict[str, str] = {}
        for task, fact in facts.items():
            models.setdefault(fact.base_model, task)
        count = len(fits)
        fetch: tuple[str, ...] = ()
        base_model = next(iter(models))
        if _is_remote(chosen):
            path = study.receipts / f"{command}.csv"
            args = fetch_sentences_args(command, chosen, base_model, path)
            fetch = (f"fetch-{command}",)
            yield Job(f"fetch-{command}", "fetch", tuple(args), FileLeft(str(path)), place=len(models))
        for number, (base_model, task) in enumerate(models.items()):
            name = "dense" if number == 0 else f"dense-{task}"
            args = sentence_args(command, chosen, base_model, [], folder, name)
            yield Job(
                f"{command}-{name}",
                command,
                tuple(args),
                FileLeft(str(folder / f"{name}.csv")),
                after=(*fetch, *((f"fetch-{task}",) if facts[task].remote else ())),
                place=count + number,
            )
        yield from _under_tickets(study, facts, fits, command, chosen, folder, fetch)


def _is_remote(chosen: SentenceStudy) -> bool:
    """Whether sentences come from the Hub, as far as can be told by their names."""
    names = [chosen.texts] if chosen.texts else [name.partition(":")[0] for name in chosen.pairs]
    return any(not Path(name).exists() for name in names)


def _under_tickets(
    study: Study,
    facts: "Mapping[str, TaskFacts]",
    fits: Mapping[tuple[str, str, int], str],
    command: str,
    chosen: SentenceStudy,
    folder: Path,
    after: tuple[str, ...],
) -> Iterator[Job]:
    if chosen.tickets is None:
        return
    sets: dict[str, list[tuple[str, str, int]]] = {}
    places: dict[str, int] = {}
    for place, (task, language, seed) in enumerate(fits):
        if task in (chosen.tickets.tasks or facts) and language in (chosen.tickets.languages or [language]):
            whose = "own" if chosen.tickets.own else language
            if not chosen.tickets.own or "+" not in language:
                name = f"{task}-{whose}-seed{seed}"
                places.setdefault(name, place)
                sets.setdefault(name, []).append((task, language, seed))
    for name, sources in sets.items():
        runs = [RunFolder.of(study.folder, *source) for source in sources]
        tickets = [str(run.ticket(sparsity)) for run in runs for sparsity in chosen.tickets.sparsities]
        args = sentence_args(command, chosen, facts[sources[0][0]].base_model, tickets, folder, name)
        yield Job(
            f"{command}-{name}",
            command,
            tuple(args),
            FileLeft(str(folder / f"{name}.csv")),
            tuple(fits[source] for source in sources),
            after,
            places[name],
        )
