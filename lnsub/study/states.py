"""What has become of a study's jobs: told by what they left, by their own folders, and by SLURM's queue.

A job's folder, ``<study>/study/jobs/<job>/``, is written by whatever runs the job, here or on a cluster::

    log.txt          what it printed, all attempts one after the other
    attempts.jsonl   a line an attempt: started, seconds, status, where
    running.json     while it runs: pid, host, started, slurm
    progress.json    while it runs: how far it is
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.common.printable import printable
from lnsub.common.progress_file import Progress, read_progress
from lnsub.common.signals import EXIT_STATUS
from lnsub.study.job import RESUMABLE, Job
from lnsub.study.plan import Plan

NAMES = ("done", "running", "queued", "ready", "waiting", "interrupted", "failed", "blocked")
"""The states. ``ready`` can start, ``waiting`` needs others first, ``blocked`` needs one that failed."""

LOST = "LOST"
"""The state, in a queue, of a job that SLURM ended otherwise than with success."""

_SILENT = 600.0
"""Seconds without a sign after which a job on another machine, of which no queue tells, is taken for lost."""


@dataclass(frozen=True)
class Attempt:
    """One run of a job, ended.

    Attributes:
        started: seconds since the epoch.
        seconds: how long it took.
        status: its exit status; negative: the signal that ended it.
        where: ``here``, or the SLURM job.
    """

    started: float
    seconds: float
    status: int
    where: str = "here"


@dataclass(frozen=True)
class State:
    """What has become of a job.

    Attributes:
        name: one of :data:`NAMES`.
        reason: why it failed, is blocked or is queued.
        progress: how far it is, while it runs.
        seconds: how long its attempts took; while it runs, with the present one so far.
    """

    name: str
    reason: str = ""
    progress: Progress | None = None
    seconds: float = 0.0


class JobFolder:
    """A job's own folder.

    Args:
        plan: the plan.
        job: the job.
    """

    def __init__(self, plan: Plan, job: Job) -> None:
        self.path = plan.own / "jobs" / job.id
        self.log = self.path / "log.txt"
        self.attempts_file = self.path / "attempts.jsonl"
        self.running_file = self.path / "running.json"
        self.progress_file = self.path / "progress.json"

    def attempts(self) -> list[Attempt]:
        """The attempts that have ended; lines that are no whole records are skipped."""
        found = []
        try:
            lines = read_text(self.attempts_file).splitlines()
        except (OSError, UnreadableError):
            return []
        for line in lines:
            try:
                found.append(Attempt(**parse_json(line)))
            except (UnreadableError, TypeError):
                continue
        return found

    def running(self) -> dict[str, Any] | None:
        """Who says that it runs it; None for nobody, for a process that is no more, or one elsewhere that is silent."""
        try:
            found = parse_json(read_text(self.running_file))
        except (OSError, UnreadableError):
            return None
        if not isinstance(found, dict):
            return None
        if found.get("slurm") or found.get("host") != socket.gethostname():
            return found if self._silent() < _SILENT else None
        return found if found.get("born") == born(int(found.get("pid") or 0)) is not None else None

    def _silent(self) -> float:
        files = [file for file in (self.log, self.progress_file, self.running_file) if file.exists()]
        return time.time() - max((file.stat().st_mtime for file in files), default=0.0)

    def said_last(self) -> str:
        """The last line of the log that says what went wrong, or simply the last."""
        try:
            size = self.log.stat().st_size
            with self.log.open("rb") as file:
                file.seek(max(0, size - 20_000))
                lines = file.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        lines = [printable(line.strip()) for line in lines if line.strip()]
        # What lnsub says goes before what SLURM says of it, and an error before a remark.
        told = [line.removeprefix("lnsub: ") for line in lines if line.startswith("lnsub: ")]
        errors = [line for line in told if line.startswith("error: ") or " failed" in line]
        slurm = [line for line in lines if line.startswith(("srun: error", "slurmstepd: error"))]
        return next((found[-1].removeprefix("error: ") for found in (errors, told, slurm, lines) if found), "")


def born(pid: int) -> str | None:
    """When a process was started, as the kernel counts, which tells it from a later one of that number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        # Without /proc, whether there is such a process must do.
        if Path("/proc/self").exists() or pid <= 0:
            return None
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return "alive"
    return None if fields[0] == "Z" else fields[19]


def states_of(
    plan: Plan,
    queue: Mapping[str, tuple[str, str]] | None = None,
    whole: Mapping[str, bool] | None = None,
) -> dict[str, State]:
    """The states of all jobs.

    Args:
        plan: the plan.
        queue: of jobs that SLURM has: its state and reason, by the job's id; None: not asked.
        whole: of jobs of which it is known whether what they leave is whole: looking takes a while.

    Returns:
        The states by the jobs' ids, in the order of the plan.
    """
    states: dict[str, State] = {}
    latest = 0.0
    for job in plan.jobs:
        folder = JobFolder(plan, job)
        attempts = folder.attempts()
        states[job.id] = state = _state(job, folder, attempts, states, queue, (whole or {}).get(job.id))
        if job.kind == "report" and state.name == "done" and not _newer(job, latest):
            states[job.id] = State("ready", "the page is older than what it shows", seconds=state.seconds)
        latest = max([latest, *(attempt.started + attempt.seconds for attempt in attempts)])
    return states


def _state(
    job: Job,
    folder: JobFolder,
    attempts: list[Attempt],
    earlier: Mapping[str, State],
    queue: Mapping[str, tuple[str, str]] | None,
    whole: bool | None,
) -> State:
    # A job that cannot be resumed starts anew, so that only its last attempt counts.
    seconds = sum(attempt.seconds for attempt in (attempts if job.kind in RESUMABLE else attempts[-1:]))
    queued = (queue or {}).get(job.id)
    running = folder.running()
    if (
        running is not None
        and running.get("slurm")
        and queue is not None
        and (queued is None or queued[0] in {"PENDING", LOST})
    ):
        running = None
    if running is not None:
        spent = seconds + max(0.0, time.time() - float(running.get("started") or time.time()))
        return State("running", progress=read_progress(folder.progress_file), seconds=spent)
    lost = queued if queued is not None and queued[0] == LOST else None
    if queued is not None and lost is None:
        running_now = queued[0] in {"RUNNING", "COMPLETING", "CONFIGURING"}
        return State("running" if running_now else "queued", queued[1], seconds=seconds)
    if job.leaves.whole() if whole is None else whole:
        return State("done", seconds=seconds)
    lacking = [need for need in job.needs if earlier[need].name in {"failed", "blocked"}]
    if lacking:
        return State("blocked", f"needs {lacking[0]}", seconds=seconds)
    if lost is not None and not (attempts and attempts[-1].status):
        return State("failed", lost[1], seconds=seconds)
    if attempts and attempts[-1].status == EXIT_STATUS:
        return State("interrupted", seconds=seconds)
    if attempts and attempts[-1].status:
        last = attempts[-1].status
        ended = f"ended by signal {-last}" if last < 0 else f"exit status {last}"
        return State("failed", folder.said_last() or ended, seconds=seconds)
    if attempts:
        return State("failed", f"it ended, but {job.leaves.shown} is not whole", seconds=seconds)
    wanting = any(earlier[need].name != "done" for need in job.needs)
    wanting |= any(earlier[other].name in {"running", "queued", "ready", "waiting"} for other in job.after)
    return State("waiting" if wanting else "ready", seconds=seconds)


def _newer(job: Job, latest: float) -> bool:
    """Whether the page was written after the last of the others had ended."""
    try:
        # Its own start would be too early: it reads what is there while it runs. File times may be coarse.
        return Path(job.leaves.shown).stat().st_mtime >= latest - 1.0
    except OSError:
        return False


def running_text(pid: int, slurm: str = "") -> str:
    """What ``running.json`` says of a process that was just started."""
    facts = {"pid": pid, "born": born(pid), "host": socket.gethostname(), "started": time.time(), "slurm": slurm}
    return json.dumps(facts)
