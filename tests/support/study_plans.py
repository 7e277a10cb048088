"""Plans of made-up jobs, for tests that start no process."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lnsub.study.job import Job, Work
from lnsub.study.leaves import FileLeft
from lnsub.study.plan import Plan
from lnsub.study.settings import Slurm, Study, TaskStudy
from lnsub.study.states import Attempt, JobFolder


def job(folder: Path, name: str, kind: str = "fit", **changes: Any) -> Job:
    """A job that leaves a file of its name in a folder."""
    values = {"args": ("report", name), "leaves": FileLeft(str(folder / f"{name}.left")), **changes}
    return Job(name, kind, **values)


def plan_of(folder: Path, *jobs: Job, slurm: Slurm | None = None) -> Plan:
    """A plan of jobs."""
    tasks = {"xnli": TaskStudy(["xnli.yaml"], ["fr"])}
    return Plan(Study("made-up", tasks, output=str(folder), slurm=slurm or Slurm()), jobs)


def finish(one: Job) -> None:
    """Leaves what a job leaves."""
    Path(one.leaves.shown).touch()


def attempted(plan: Plan, one: Job, *statuses: int, seconds: float = 10.0, log: str = "") -> JobFolder:
    """Notes attempts of a job."""
    folder = JobFolder(plan, one)
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.attempts_file.open("a") as file:
        for status in statuses:
            file.write(f"{json.dumps(asdict(Attempt(1.0, seconds, status)))}\n")
    folder.log.write_text(log)
    return folder


def work(**changes: Any) -> Work:
    """The work of a fit of three rounds of one epoch on a hundred rows."""
    values: dict[str, Any] = {
        "task": "xnli",
        "languages": ("fr",),
        "fits": 3,
        "epochs": 1,
        "batch": 10,
        "rows": 100,
        "measured": 6,
        "weights": 10_000_000,
    }
    return Work(**{**values, **changes})
