"""Running a study's jobs on this machine: so many at once, each in its own process, in the order of their needs."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO

from lnsub.common.errors import UserError
from lnsub.common.files import append_lines, make_folder, replacing
from lnsub.common.locks import claimed
from lnsub.common.progress_file import VARIABLE
from lnsub.common.signals import EXIT_STATUS, Preempted, deferred_signals, pending
from lnsub.study.display import Display
from lnsub.study.estimates import usable_cores
from lnsub.study.job import ON_GPU, Job
from lnsub.study.plan import Plan
from lnsub.study.queue import queue_of
from lnsub.study.states import Attempt, JobFolder, State, running_text, states_of

_LOOK = 0.2
"""Seconds between two looks at the processes."""
_PATIENCE = 600.0
"""Seconds that a job has to save after a signal, before it is killed."""


@dataclass
class Outcome:
    """What has become of a study.

    Attributes:
        failed: the jobs that failed, with the reason.
        blocked: the jobs that could not run, with what they need.
    """

    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    """A job's process."""

    job: Job
    folder: JobFolder
    process: subprocess.Popen[bytes]
    started: float
    slot: int
    clock: float
    log: IO[bytes]


def run_study(plan: Plan, jobs: int, display: Display) -> Outcome:
    """Runs the jobs that are not done; those that failed before are tried again.

    A job that fails is recorded and does not stop the others, except for those that need it.

    Args:
        plan: the plan.
        jobs: how many run at once. They share the cores, and each has a GPU of its own where there are GPUs.
        display: shows what runs.

    Returns:
        What failed.

    Raises:
        UserError: another `lnsub study run` of this study is at work, or SLURM has jobs of it.
        Preempted: a signal stopped it; every job has saved.
    """
    with deferred_signals(), claimed(plan.own) as ours:
        if not ours:
            raise UserError(f"{plan.folder} is in use by another `lnsub study run`: wait until it ends.")
        if queued := queue_of(plan):
            raise UserError(
                f"SLURM has {len(queued)} jobs of {plan.folder}, such as {next(iter(queued))}: wait until they have "
                "ended, or cancel them."
            )
        return _Runner(plan, jobs, display).run()


class _Runner:
    def __init__(self, plan: Plan, jobs: int, display: Display) -> None:
        self.plan = plan
        self.jobs = jobs
        self.display = display
        self.tried: dict[str, str] = {}  # jobs that this command has run, with why they failed, or ""
        self.running: list[_Running] = []
        self.gpus = gpus()
        self.states: dict[str, State] = {}
        self.whole: dict[str, bool] = {}  # whether what a job leaves is whole, of jobs that nothing is at

    def run(self) -> Outcome:
        """Runs until nothing is left that can run."""
        with self.display:
            try:
                while self._step():
                    self.display.show(self.states)
                    self._sleep()
            except BaseException:
                for one in self.running:
                    one.process.kill()
                raise
        return Outcome(
            {name: state.reason for name, state in self.states.items() if state.name == "failed"},
            {name: state.reason for name, state in self.states.items() if state.name == "blocked"},
        )

    def _step(self) -> bool:
        """Starts what can start; returns whether anything runs, or may yet."""
        if signum := pending():
            self._stop(signum)
        self.states = self._states()
        while len(self.running) < self.jobs:
            job = next((job for job in self.plan.jobs if self._can_start(job)), None)
            if job is None:
                break
            self._start(job)
            self.states[job.id] = State("running", seconds=self.states[job.id].seconds)
        return bool(self.running) or any(self._is_elsewhere(job) for job in self.plan.jobs)

    def _states(self) -> dict[str, State]:
        ours = {one.job.id for one in self.running}
        for job in self.plan.jobs:
            # Of a process that outlived an earlier command, the state is asked for until it has ended.
            outlived = self.states and self.states[job.id].name == "running" and job.id not in ours
            if job.id not in self.whole or outlived:
                self.whole[job.id] = job.leaves.whole()
        states = states_of(self.plan, whole=self.whole)
        for name in ours:
            # One that has ended since the last look is not collected yet, and would seem to be ready again.
            if states[name].name != "running":
                states[name] = State("running", seconds=states[name].seconds)
        for name, reason in self.tried.items():
            if reason and states[name].name not in {"done", "running"}:
                states[name] = State("failed", reason, seconds=states[name].seconds)
        return states

    def _can_start(self, job: Job) -> bool:
        """Whether a job is to be done, has not been tried, and all that it waits for has ended."""
        if job.id in self.tried or self.states[job.id].name in {"done", "running"}:
            return False
        if any(self.states[need].name != "done" for need in job.needs):
            return False
        return all(self._has_ended(other) for other in job.after)

    def _has_ended(self, name: str) -> bool:
        """Whether nothing more will come of a job."""
        if self.states[name].name == "running":
            return False
        if self.states[name].name == "done" or name in self.tried:
            return True
        return any(self._is_hopeless(need) for need in self.plan.by_id[name].needs)

    def _is_hopeless(self, name: str) -> bool:
        """Whether a job has failed, or needs one that has."""
        if self.states[name].name in {"done", "running"}:
            return False
        return bool(self.tried.get(name)) or any(self._is_hopeless(need) for need in self.plan.by_id[name].needs)

    def _is_elsewhere(self, job: Job) -> bool:
        """Whether an earlier command's process, which has outlived it, is still at a job."""
        return self.states[job.id].name == "running"

    def _start(self, job: Job) -> None:
        folder = JobFolder(self.plan, job)
        make_folder(folder.path)
        folder.progress_file.unlink(missing_ok=True)
        slot = min(set(range(self.jobs)) - {one.slot for one in self.running})
        log = folder.log.open("ab")
        log.write(f"$ {job.command}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", "lnsub", *job.args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment(job, folder, slot),
            # Ctrl-C in the terminal is for this process, which passes it on.
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        with replacing(folder.running_file) as file:
            file.write(running_text(process.pid).encode())
        self.running.append(_Running(job, folder, process, time.time(), slot, time.monotonic(), log))
        self.display.started(job)

    def _environment(self, job: Job, folder: JobFolder, slot: int) -> dict[str, str]:
        threads = str(max(1, usable_cores() // self.jobs))
        env = {**os.environ, VARIABLE: str(folder.progress_file), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
        # A study runs beside other work, and its jobs beside each other: threads that spin while they wait would make
        # all of them many times slower.
        env.setdefault("OMP_WAIT_POLICY", "passive")
        if self.jobs > 1:
            env.setdefault("OMP_NUM_THREADS", threads)
        if job.kind in ON_GPU and self.gpus and self.jobs > 1:
            env["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return env

    def _sleep(self) -> None:
        """Waits until a job ends, or a while; and notes those that have ended."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not pending():
            if any(one.process.poll() is not None for one in self.running):
                break
            time.sleep(_LOOK)
        self._collect()

    def _collect(self) -> None:
        for one in list(self.running):
            status = one.process.poll()
            if status is None:
                continue
            self.running.remove(one)
            one.log.close()
            attempt = Attempt(one.started, round(time.monotonic() - one.clock, 2), status)
            append_lines(one.folder.attempts_file, f"{json.dumps(asdict(attempt))}\n".encode())
            one.folder.running_file.unlink(missing_ok=True)
            del self.whole[one.job.id]
            self.states = self._states()
            self.display.show(self.states)
            state = self.states[one.job.id]
            reason = "" if state.name == "done" else state.reason or state.name
            if not (status == EXIT_STATUS and pending()):
                self.tried[one.job.id] = reason
            self.display.ended(one.job, attempt, reason)

    def _stop(self, signum: signal.Signals) -> None:
        """Has every job save and end, and raises Preempted."""
        self.display.note(f"{signum.name}: {len(self.running)} jobs save and stop")
        for one in self.running:
            one.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + _PATIENCE
        while self.running and time.monotonic() < end:
            self._collect()
            time.sleep(_LOOK)
        for one in self.running:
            one.process.kill()
            one.process.wait()
        self._collect()
        raise Preempted(signum, "every job has saved")


def _end_with_parent() -> None:
    """Has the kernel send this process SIGTERM when its parent ends, however it ends; runs in the child."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, on Linux alone


def gpus() -> list[str]:
    """The GPUs that jobs may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in {"", "-1"}]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
