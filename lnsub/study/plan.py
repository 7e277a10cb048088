"""The plan of a study: its jobs in the order of their needs, made from the study file and its configurations."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.report.page_file import check_page
from lnsub.study.graph import jobs_of
from lnsub.study.job import Job
from lnsub.study.settings import Study
from lnsub.version import __version__


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
        return self.study.folder

    @property
    def own(self) -> Path:
        """The part of it that is the study's own: the plan, the jobs' logs, the receipts."""
        return self.study.own

    @cached_property
    def by_id(self) -> dict[str, Job]:
        """The jobs by their ids."""
        return {job.id: job for job in self.jobs}

    def of_kind(self, kind: str) -> list[Job]:
        """The jobs of one kind."""
        return [job for job in self.jobs if job.kind == kind]


def make_plan(study: Study) -> Plan:
    """Makes a study's plan, or reads it where nothing has changed since it was made.

    Args:
        study: the study.

    Raises:
        UserError: see :func:`lnsub.study.facts.read_facts`; something else than a report has the page's name.
    """
    check_page(study.page)
    digest, path = _digest(study), study.own / "plan.json"
    if (jobs := _kept(path, digest)) is not None:
        return Plan(study, jobs)

    from lnsub.study.facts import read_facts

    plan = Plan(study, tuple(jobs_of(study, read_facts(study))))
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
