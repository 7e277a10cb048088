"""The plan of a study: its jobs in the order of their needs, made from the study file and its configurations."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.data.receipts import receipt_path
from lnsub.runs.folder import RunFolder
from lnsub.study.commands import fit_args, prepare_args, report_args, sentence_args, transfer_args
from lnsub.study.file import SentenceStudy, Study
from lnsub.study.job import KINDS, Job, Work
from lnsub.study.leaves import CellsLeft, FileLeft, ReceiptLeft, RunLeft
from lnsub.version import __version__

if TYPE_CHECKING:
    from lnsub.study.facts import TaskFacts

SHARED = ("dense", "random", "inherited")
"""Baselines that are the same for all tickets: each is trained on a language once."""


@dataclass(frozen=True)
class Plan:
    """The jobs of a study.

    Attributes:
        study: the study.
        jobs: its jobs, each after those it needs.
    """

    study: Study
    jobs: tuple[Job, ...]

    @property
    def folder(self) -> Path:
        """The study's folder, a tree of runs."""
        return Path(self.study.output or "")

    @property
    def own(self) -> Path:
        """The part of it that is the study's own: the plan, the jobs' logs, the receipts."""
        return self.folder / "study"

    def of_kind(self, kind: str) -> list[Job]:
        """The jobs of one kind."""
        return [job for job in self.jobs if job.kind == kind]


def make_plan(study: Study) -> Plan:
    """Makes a study's plan, or reads it where nothing has changed since it was made.

    Args:
        study: the study.

    Raises:
        UserError: see :func:`lnsub.study.facts.read_facts`.
    """
    digest, path = _digest(study), Path(study.output or "") / "study" / "plan.json"
    if (jobs := _kept(path, digest)) is not None:
        return Plan(study, jobs)

    from lnsub.study.facts import read_facts

    plan = Plan(study, tuple(_jobs(study, read_facts(study))))
    text = json.dumps({"digest": digest, "jobs": [job.to_plain() for job in plan.jobs]}, ensure_ascii=False, indent=1)
    with replacing(path) as file:
        file.write(text.encode())
    return plan


def _digest(study: Study) -> str:
    """A hash of all that a plan depends on but the data."""
    configs = [
        *(task.config for task in study.tasks.values()),
        *(study.transfer.config if study.transfer else {}).values(),
    ]
    texts = {name: _text(name) for config in configs for name in config}
    facts = [__version__, str(Path.cwd()), repr(study), texts]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _text(name: str) -> str:
    try:
        return read_text(Path(name))
    except (OSError, UnreadableError) as error:
        raise UserError(f"The configuration {name} cannot be read: {error}.") from error


def _kept(path: Path, digest: str) -> tuple[Job, ...] | None:
    try:
        found = parse_json(read_text(path))
        return tuple(map(Job.from_plain, found["jobs"])) if found["digest"] == digest else None
    except (OSError, UnreadableError, KeyError, TypeError):
        return None


def _jobs(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    made: list[Job] = []
    for jobs in (_data, _fits, _transfers, _across, _sentences):
        found = sorted(jobs(study, facts), key=lambda job: list(KINDS).index(job.kind))
        made += found
        yield from found
    folder = Path(study.output or "")
    base_models = list(dict.fromkeys(fact.base_model for fact in facts.values()))
    args = report_args(study, base_models)
    yield Job("report", "report", tuple(args), FileLeft(str(folder / study.report.page)), (), tuple(j.id for j in made))


def _data(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Fetching, one job a task, as a login node does it; tokenising, one job a language."""
    folder, place = _receipts(study), 0
    for task, fact in facts.items():
        languages = _languages(study, task)
        fetch = f"fetch-{task}"
        if fact.remote:
            paths = tuple(str(receipt_path(folder, task, language, fetched=True)) for language in languages)
            args = prepare_args(study, task, languages, folder, fetch_only=True)
            yield Job(fetch, "fetch", tuple(args), ReceiptLeft(paths), place=place)
        for language in languages:
            for seed in study.seeds if "+" in language else [None]:
                path = receipt_path(folder, task, language, seed)
                args = prepare_args(study, task, [language], folder, seed)
                work = Work(task, (language,), seed, rows=fact.rows)
                after = (fetch,) if fact.remote else ()
                yield Job(
                    _tokenise(task, language, seed), "tokenise", tuple(args), ReceiptLeft((str(path),)),
                    after=after, place=place, work=work,
                )  # fmt: skip
                place += 1


def _fits(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    for place, (task, language, seed) in enumerate(_sources(study)):
        fact = facts[task]
        folder = RunFolder.of(study.output or "", task, language, seed)
        rounds = len(fact.sparsities)
        yield Job(
            _fit(task, language, seed),
            "fit",
            ("fit", *fit_args(study, task, language, seed)),
            RunLeft(str(folder.path), language, fact.sparsities, fact.metrics),
            (_tokenise(task, language, seed),),
            place=place,
            work=_work(fact, task, [language], seed, rounds),
        )


def _transfers(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Each source's tickets on all targets, with the shared baselines on the source's own language."""
    chosen = study.transfer
    if chosen is None:
        return
    for place, (task, language, seed) in enumerate(_sources(study)):
        targets = _targets(study, task)
        # Targets that no ticket is found on have their shared baselines with the sources in turn.
        sources = study.tasks[task].languages
        others = [target for target in targets if target not in sources]
        own = [language] if language in targets else []
        on = own + others[sources.index(language) :: len(sources)]
        baselines = [name for name in chosen.baselines if on or name.partition(":")[0] not in SHARED]
        for kind in ("transfer", *(["zero-shot"] if chosen.zero_shot else [])):
            zero_shot = kind == "zero-shot"
            shared = len([name for name in baselines if name in SHARED])
            levels = len(chosen.sparsities)
            cells = levels * (1 if zero_shot else len(targets)) + len(on) * levels * shared
            yield _transfer_job(
                study, facts[task], kind, f"{kind}-{task}-{language}-seed{seed}", task, (task, language, seed),
                targets, baselines, [language] if zero_shot else on, place, cells,
            )  # fmt: skip


def _across(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Tickets of one task on the others, in the languages of ``across_tasks``."""
    wanted = study.transfer.across_tasks if study.transfer else []
    pairs = [(source, target) for source, target in product(facts, facts) if source != target]
    place = 0
    for (source, target), language, seed in product(pairs, wanted, study.seeds):
        targets = [name for name in wanted if name in _targets(study, target)]
        if language in study.tasks[source].languages and targets:
            name = f"across-{source}-to-{target}-{language}-seed{seed}"
            levels = len(study.transfer.sparsities) if study.transfer else 0
            where = (source, language, seed)
            cells = levels * len(targets)
            yield _transfer_job(study, facts[target], "across", name, target, where, targets, [], [], place, cells)
            place += 1


def _transfer_job(
    study: Study,
    fact: "TaskFacts",
    kind: str,
    name: str,
    task: str,
    source: tuple[str, str, int],
    targets: list[str],
    baselines: list[str],
    on: list[str],
    place: int,
    cells: int,
) -> Job:
    assert study.transfer is not None
    *_, seed = source
    output = Path(study.output or "") / "transfer"
    run = RunFolder.of(study.output or "", *source)
    tickets = [str(run.ticket(sparsity)) for sparsity in study.transfer.sparsities]
    zero_shot = kind == "zero-shot"
    args = transfer_args(
        study, task, tickets, targets, seed, output, baselines=baselines, baselines_on=on, zero_shot=zero_shot
    )
    test_by = str(_receipts(study)) if study.transfer.test else None
    leaves = CellsLeft(
        str(output), task, tuple(tickets), tuple(targets), seed, tuple(baselines), tuple(on), zero_shot,
        fact.metrics, test_by,
    )  # fmt: skip
    after = tuple(_tokenise(task, target, seed) for target in targets)
    return Job(name, kind, tuple(args), leaves, (_fit(*source),), after, place, _work(fact, task, targets, seed, cells))


def _sentences(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Retrieval and similarity: the dense models, then each source's tickets, or each task's together."""
    for command, chosen in (("retrieve", study.retrieval), ("similarity", study.similarity)):
        if chosen is None:
            continue
        folder = Path(study.output or "") / command
        models: dict[str, str] = {}
        for task, fact in facts.items():
            models.setdefault(fact.base_model, task)
        count = len(list(_sources(study)))
        for number, (base_model, task) in enumerate(models.items()):
            name = "dense" if number == 0 else f"dense-{task}"
            args = sentence_args(command, chosen, base_model, [], folder, name)
            yield Job(
                f"{command}-{name}", command, tuple(args), FileLeft(str(folder / f"{name}.csv")),
                after=tuple(f"tokenise-{t}-{x}" for t, x in [(task, _languages(study, task)[0])] if "+" not in x),
                place=count + number,
            )  # fmt: skip
        yield from _under_tickets(study, facts, command, chosen, folder)


def _under_tickets(
    study: Study, facts: "Mapping[str, TaskFacts]", command: str, chosen: SentenceStudy, folder: Path
) -> Iterator[Job]:
    if chosen.tickets is None:
        return
    sets: dict[str, list[tuple[str, str, int]]] = {}
    places: dict[str, int] = {}
    for place, (task, language, seed) in enumerate(_sources(study)):
        if task in (chosen.tickets.tasks or facts):
            whose = "own" if chosen.tickets.own else language
            if not chosen.tickets.own or "+" not in language:
                name = f"{task}-{whose}-seed{seed}"
                places.setdefault(name, place)
                sets.setdefault(name, []).append((task, language, seed))
    for name, sources in sets.items():
        runs = [RunFolder.of(study.output or "", *source) for source in sources]
        tickets = [str(run.ticket(sparsity)) for run in runs for sparsity in chosen.tickets.sparsities]
        args = sentence_args(command, chosen, facts[sources[0][0]].base_model, tickets, folder, name)
        yield Job(
            f"{command}-{name}", command, tuple(args), FileLeft(str(folder / f"{name}.csv")),
            tuple(_fit(*source) for source in sources), place=places[name],
        )  # fmt: skip


def _work(fact: "TaskFacts", task: str, languages: list[str], seed: int, fits: int) -> Work:
    measured = fits * ((fact.epochs or 1) + 1)
    return Work(
        task, tuple(languages), seed, fits, fact.epochs, fact.steps, fact.batch, fact.rows, measured, fact.weights
    )


def _sources(study: Study) -> Iterator[tuple[str, str, int]]:
    for name, task in study.tasks.items():
        for language, seed in product(task.languages, study.seeds):
            yield name, language, seed


def _targets(study: Study, task: str) -> list[str]:
    chosen = study.transfer.languages if study.transfer else None
    return list(chosen or [language for language in study.tasks[task].languages if "+" not in language])


def _languages(study: Study, task: str) -> list[str]:
    """All that a task's data is needed of."""
    targets = _targets(study, task) if study.transfer else []
    return list(dict.fromkeys([*study.tasks[task].languages, *targets]))


def _receipts(study: Study) -> Path:
    return Path(study.output or "") / "study" / "data"


def _tokenise(task: str, language: str, seed: int | None) -> str:
    return f"tokenise-{task}-{language}" + (f"-seed{seed}" if "+" in language and seed is not None else "")


def _fit(task: str, language: str, seed: int) -> str:
    return f"fit-{task}-{language}-seed{seed}"
