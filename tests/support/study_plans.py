"""Plans of made-up jobs, for tests that start no process, and what must hold of every plan."""

import json
import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lnsub.cli import commands
from lnsub.cli.main import OTHERS
from lnsub.runs.folder import RunFolder
from lnsub.study.job import Job, Work
from lnsub.study.leaves import FileLeft
from lnsub.study.plan import Plan
from lnsub.study.settings import Slurm, Study, TaskStudy
from lnsub.study.states import Attempt, JobFolder
from lnsub.training.config import RunConfig


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


def check_order(jobs: tuple[Job, ...]) -> None:
    """Each job after what it needs and what it waits for, none twice."""
    seen: set[str] = set()
    for job in jobs:
        assert {*job.needs, *job.after} <= seen, job.id
        assert job.id not in seen
        seen.add(job.id)
    assert [job.kind for job in jobs][-1] == "report"
    assert set(jobs[-1].after) == seen - {jobs[-1].id}


def check_commands(jobs: tuple[Job, ...]) -> None:
    """Each job is a command that lnsub's own parsers take, also when it was typed.

    Settings of a run are parsed once for each kind of job and task, as that takes a while.
    """
    parsed: set[tuple[str, str]] = set()
    for job in jobs:
        program, command, *args = shlex.split(job.command)
        assert (program, command, *args) == ("lnsub", *job.args)
        known = (job.kind, job.work.task) in parsed
        parsed.add((job.kind, job.work.task))
        if command != "fit":
            assert command in OTHERS
            options = commands.parser_of(command).parse_args(args)
            assert options.call
            if (settings := getattr(options, "settings", [])) and not known:
                configs = [f"--config={name}" for name in options.config]
                RunConfig.parse([*configs, *settings, "--data.init_args.language=aa"])
        elif not known:
            config = RunConfig.parse(args)
            language, seed = config.data["init_args"]["language"], config.seed_everything
            run = RunFolder.of(config.output, config.data_module().task.name, language, seed)
            assert job.leaves.shown.startswith(f"{run.path}/")


def check_places(jobs: tuple[Job, ...]) -> None:
    """No two tasks of an array have a number; what is fetched is in no array."""
    places = Counter((job.kind, job.place) for job in jobs if job.kind != "fetch")
    assert places.most_common(1)[0][1] == 1
