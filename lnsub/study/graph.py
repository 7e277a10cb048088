"""The jobs of a study and what each needs, made from its settings and the facts of its configurations."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING

from lnsub.data.receipts import receipt_path
from lnsub.runs.condition import PLAIN
from lnsub.runs.folder import RunFolder
from lnsub.study.commands import fit_args, prepare_args, report_args, transfer_args
from lnsub.study.job import KINDS, Job, Work
from lnsub.study.leaves import CellsLeft, FileLeft, ReceiptLeft, RunLeft
from lnsub.study.sentences import sentence_jobs
from lnsub.study.settings import Study
from lnsub.study.sources import Source, has_shared_baselines, plain_sources, sources, transferred
from lnsub.tickets.provenance import RANDOM_FROM

if TYPE_CHECKING:
    from lnsub.study.facts import TaskFacts

SHARED = ("dense", "random", "inherited")
"""Baselines that are the same for all tickets: each is trained on a language once."""


def jobs_of(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Makes the jobs of a study, each after those that it needs.

    Args:
        study: the study.
        facts: what its configurations say, by task.
    """
    made: list[Job] = []
    for jobs in (_data, _fits, _transfers, _across, _sentences):
        found = sorted(jobs(study, facts), key=lambda job: list(KINDS).index(job.kind))
        made += found
        yield from found
    base_models = list(dict.fromkeys(fact.base_model for fact in facts.values()))
    args = report_args(study, base_models)
    yield Job("report", "report", tuple(args), FileLeft(str(study.page)), (), tuple(j.id for j in made))


def _data(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Fetching, one job a task, as a login node does it; tokenising, one job a language."""
    folder, place = study.receipts, 0
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
                    _tokenise(task, language, seed),
                    "tokenise",
                    tuple(args),
                    ReceiptLeft((str(path),)),
                    after=after,
                    place=place,
                    work=work,
                )
                place += 1


def _fits(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    for place, source in enumerate(sources(study)):
        task, language, seed, condition = source
        fact = facts[task]
        folder = RunFolder.of(study.folder, *source)
        rounds = len(fact.sparsities)
        yield Job(
            f"fit-{source.name}",
            "fit",
            ("fit", *fit_args(study, task, language, seed, condition)),
            RunLeft(str(folder.path), language, fact.sparsities, fact.metrics),
            (_tokenise(task, language, seed),) if "+" not in language or seed in study.seeds else (),
            place=place,
            work=_work(fact, task, [language], seed, rounds),
        )


def _transfers(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Each source's tickets on all targets, with the shared baselines on the source's own language."""
    chosen = study.transfer
    if chosen is None:
        return
    numbers = {source.name: number for number, source in enumerate(sources(study))}
    for source, seed in transferred(study):
        task, language = source.task, source.language
        # Its fit's number, so that SLURM starts it as soon as that has ended; with further seeds, numbers of its own.
        place = numbers[source.name] + len(numbers) * (chosen.seeds or [seed]).index(seed)
        targets = _targets(study, task)
        # Targets that no ticket is found on have their shared baselines with the sources in turn.
        found_on = study.tasks[task].languages
        others = [target for target in targets if target not in found_on]
        own = [language] if language in targets else []
        on = own + others[found_on.index(language) :: len(found_on)] if has_shared_baselines(study, source) else []
        for kind in ("transfer", *(["zero-shot"] if chosen.zero_shot else [])):
            # In a zero-shot transfer all is trained on the source.
            trained, on_these = ([language], [language]) if kind == "zero-shot" else (targets, on)
            baselines = [name for name in chosen.baselines if on_these or name not in SHARED]
            cells = _count(_levels(study, task), facts[task], baselines, len(trained), len(on_these))
            # One-shot masks are made from the dense model of the source.
            cells += "oneshot" in baselines and not ("dense" in baselines and language in on_these)
            yield _transfer_job(
                study,
                facts[task],
                kind,
                f"{kind}-{source.name}{_again(source, seed)}",
                task,
                source,
                seed,
                targets,
                baselines,
                on_these,
                place,
                cells,
            )


def _count(levels: list[float], fact: "TaskFacts", baselines: list[str], targets: int, shared_on: int) -> int:
    """The number of cells of one source's tickets and baselines; see :func:`lnsub.transfer.cells.plan`."""
    cells = targets * len(levels)
    for name, _, start in (baseline.partition(":") for baseline in baselines):
        if name in SHARED:
            cells += shared_on * (1 if name == "dense" else len(levels))
        elif name == RANDOM_FROM:
            lower = [level for level in fact.sparsities[1:] if not start or abs(level - float(start)) < 1e-6]
            cells += targets * sum(level < upper - 1e-6 for upper in levels for level in lower)
        else:
            cells += targets * len(levels)
    return cells


def _across(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    """Tickets of one task on the others, in the same language: those of ``across_tasks``."""
    wanted = study.transfer.across_tasks if study.transfer else []
    pairs = [(source, target) for source, target in product(facts, facts) if source != target]
    place = 0
    found = [(source, seed) for source, seed in transferred(study) if source.condition is PLAIN]
    for (first, second), language in product(pairs, wanted):
        for source, seed in found:
            if (source.task, source.language) == (first, language) and language in study.tasks[second].languages:
                name = f"across-{first}-to-{second}-{language}-seed{source.seed}{_again(source, seed)}"
                cells, to = len(_levels(study, first)), [language]
                yield _transfer_job(
                    study, facts[second], "across", name, second, source, seed, to, [], [], place, cells
                )
                place += 1


def _transfer_job(
    study: Study,
    fact: "TaskFacts",
    kind: str,
    name: str,
    task: str,
    source: Source,
    seed: int,
    targets: list[str],
    baselines: list[str],
    on: list[str],
    place: int,
    cells: int,
) -> Job:
    assert study.transfer is not None
    output = study.folder / "transfer"
    run = RunFolder.of(study.folder, *source)
    tickets = [str(run.ticket(sparsity)) for sparsity in _levels(study, source.task)]
    zero_shot = kind == "zero-shot"
    args = transfer_args(
        study, task, tickets, targets, seed, output, baselines=baselines, baselines_on=on, zero_shot=zero_shot
    )
    test_by = str(study.receipts) if study.transfer.test else None
    leaves = CellsLeft(
        str(output),
        task,
        tuple(tickets),
        tuple(targets),
        seed,
        tuple(baselines),
        tuple(on),
        zero_shot,
        fact.metrics,
        test_by,
    )
    after = tuple(_tokenise(task, target, source.seed) for target in targets if source.seed in study.seeds)
    needs, work = (f"fit-{source.name}",), _work(fact, task, targets, seed, cells)
    return Job(name, kind, tuple(args), leaves, needs, after, place, work)


def _sentences(study: Study, facts: "Mapping[str, TaskFacts]") -> Iterator[Job]:
    return sentence_jobs(study, facts, {source[:3]: f"fit-{source.name}" for source in plain_sources(study)})


def _work(fact: "TaskFacts", task: str, languages: list[str], seed: int, fits: int) -> Work:
    measured = fits * ((fact.epochs or 1) + 1)
    return Work(
        task, tuple(languages), seed, fits, fact.epochs, fact.steps, fact.batch, fact.rows, measured, fact.weights
    )


def _levels(study: Study, task: str) -> list[float]:
    """The sparsities of a task's tickets that are transferred."""
    assert study.transfer is not None
    own = study.tasks[task].transfer_sparsities
    return study.transfer.sparsities if own is None else own


def _targets(study: Study, task: str) -> list[str]:
    chosen = study.transfer.languages if study.transfer else None
    return list(chosen or [language for language in study.tasks[task].languages if "+" not in language])


def _languages(study: Study, task: str) -> list[str]:
    """All that a task's data is needed of."""
    targets = _targets(study, task) if study.transfer else []
    return list(dict.fromkeys([*study.tasks[task].languages, *targets]))


def _tokenise(task: str, language: str, seed: int | None) -> str:
    return f"tokenise-{task}-{language}" + (f"-seed{seed}" if "+" in language and seed is not None else "")


def _again(source: Source, seed: int) -> str:
    """What the name of a job has besides where tickets are fine-tuned with another seed than their own."""
    return f"-again{seed}" if seed != source.seed else ""
