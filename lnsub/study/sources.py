"""The runs of a study that find tickets: plain ones, one for each seed, and those under conditions."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from lnsub.runs.condition import PLAIN, Condition
from lnsub.study.settings import Study


class Source(NamedTuple):
    """A run that finds tickets."""

    task: str
    language: str
    seed: int
    condition: Condition = PLAIN

    @property
    def name(self) -> str:
        """Its name in those of jobs: ``wikiann-fr-seed57-sample1``."""
        apart = self.condition.name(self.seed)
        return f"{self.task}-{self.language}-seed{self.seed}" + (f"-{apart}" if apart else "")


def plain_sources(study: Study) -> Iterator[Source]:
    """The plain runs, task by task and language by language."""
    for name, task in study.tasks.items():
        for language, seed in product(task.languages, study.seeds):
            yield Source(name, language, seed)


def sources(study: Study) -> Iterator[Source]:
    """All runs that find tickets, the plain ones first."""
    yield from plain_sources(study)
    for name, task in study.tasks.items():
        for condition in task.conditions:
            for language, seed in product(condition.languages or task.languages, condition.seeds or study.seeds):
                yield Source(name, language, seed, condition)


def transferred(study: Study) -> Iterator[tuple[Source, int]]:
    """The runs whose tickets are transferred, each with the seed of a fine-tuning."""
    chosen = study.transfer
    if chosen is None:
        return
    for source in sources(study):
        plain = source.condition is PLAIN
        if plain and source.seed not in (chosen.ticket_seeds or study.seeds):
            continue
        if plain or getattr(source.condition, "transfer", False):
            for seed in chosen.seeds or [source.seed]:
                yield source, seed


def has_shared_baselines(study: Study, source: Source) -> bool:
    """Whether the baselines that are the same for all tickets are trained beside this run's.

    With seeds of their own these are the same for the tickets of all seeds, and under any condition.
    """
    chosen = study.transfer
    if chosen is None or source.condition is not PLAIN:
        return False
    return chosen.seeds is None or source.seed == (chosen.ticket_seeds or study.seeds)[0]
