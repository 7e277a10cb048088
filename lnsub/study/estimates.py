"""How long jobs may take: from what has run, or else from rates recorded elsewhere.

A training job's work is counted in weights times tokens, of which a forward and a backward pass take 6 floating-point
operations each, and an evaluation 2. Jobs that have run tell how many of them this machine does in a second; before any
has, the rates recorded in docs/performance.md stand in, which another machine may miss by far.
"""

import heapq
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from lnsub.data.receipts import Receipt, read_receipt, receipt_path
from lnsub.study.job import Job
from lnsub.study.plan import Plan
from lnsub.study.states import State

PER_CORE = 1.6e10
"""Floating-point operations a second of a CPU core in float32 training (two cores, multilingual-e5-small, XNLI)."""
PER_GPU = 6e13
"""The same of a GPU in bfloat16 (H100, mBERT)."""
STARTING = 8.0
"""Seconds until a command has imported what it needs and loaded a model."""
PER_FIT = 1.0
"""Seconds of a fit beside its steps: pruning, rewinding, writing."""
TOKENS = 40.0
"""Tokens of a row where none has been counted yet."""
OTHERS = {"fetch": 60.0, "tokenise": 15.0, "retrieve": 60.0, "similarity": 120.0, "report": 30.0}
"""Seconds of jobs that do not train, before one has run."""


@dataclass(frozen=True)
class Estimates:
    """Seconds of each job.

    Attributes:
        whole: of a job from its start, by id; None where nothing is known of its data yet.
        left: of what is left of it.
        measured: whether they come from what has run here, for jobs that train.
    """

    whole: dict[str, float | None]
    left: dict[str, float | None]
    measured: bool

    def total(self, plan: Plan, at_once: int) -> float | None:
        """Seconds until all is done with so many jobs at once, in the order of their needs; None where unknown."""
        return makespan(plan.jobs, self.left, at_once)


def estimate(plan: Plan, states: Mapping[str, State], *, at_once: int = 1, gpus: int = 0) -> Estimates:
    """Estimates all jobs of a plan.

    Args:
        plan: the plan.
        states: from :func:`lnsub.study.states.states_of`.
        at_once: jobs that share the machine's cores, for rates that were recorded elsewhere.
        gpus: GPUs that jobs have; 0: they run on the CPU.
    """
    receipts = _receipts(plan)
    units = {job.id: _units(job, receipts) for job in plan.jobs}
    rates: dict[str, list[float]] = {}
    flat: dict[str, list[float]] = {}
    for job in plan.jobs:
        state, unit = states[job.id], units[job.id]
        seconds = _seconds_of_whole(state)
        if seconds is None:
            continue
        if unit:
            rates.setdefault(job.work.task, []).append(max(seconds - _overhead(job), 0.1 * seconds) / unit)
        elif job.kind in OTHERS and state.name == "done":
            flat.setdefault(job.kind, []).append(seconds)
    cores = max(1.0, usable_cores() / at_once)
    recorded = 1.0 / (PER_GPU if gpus else PER_CORE * cores)
    anywhere = median([rate for found in rates.values() for rate in found]) if rates else recorded
    whole: dict[str, float | None] = {}
    left: dict[str, float | None] = {}
    for job in plan.jobs:
        unit, state = units[job.id], states[job.id]
        if job.kind in OTHERS:
            seconds = median(flat.get(job.kind) or [OTHERS[job.kind]])
        else:
            rate = median(rates[job.work.task]) if job.work.task in rates else anywhere
            seconds = None if unit is None else unit * rate + _overhead(job)
        whole[job.id] = seconds
        left[job.id] = _left(state, seconds)
    return Estimates(whole, left, bool(rates))


def makespan(jobs: Sequence[Job], left: Mapping[str, float | None], at_once: int) -> float | None:
    """Seconds until the last of some jobs ends, if each starts as soon as it may and one of so many places is free.

    Args:
        jobs: each after those it needs.
        left: seconds of each; None: unknown, which makes the whole unknown.
        at_once: places.
    """
    seconds = {job.id: left[job.id] for job in jobs}
    if any(value is None for value in seconds.values()):
        return None
    waiting, running, ended, now = list(jobs), list[tuple[float, str]](), set[str](), 0.0
    while waiting or running:
        for job in list(waiting):
            if len(running) < max(1, at_once) and ended.issuperset((*job.needs, *job.after)):
                waiting.remove(job)
                if took := seconds[job.id]:
                    heapq.heappush(running, (now + took, job.id))
                else:
                    ended.add(job.id)
        if running:
            now, last = heapq.heappop(running)
            ended.add(last)
    return now


def _seconds_of_whole(state: State) -> float | None:
    """How long a job took, or will have taken by what it says of itself; None where that cannot be told yet."""
    if state.name == "done":
        return state.seconds or None
    progress = state.progress
    if state.name == "running" and progress is not None and progress.done > 0.02 and progress.seconds_left is not None:
        return state.seconds + progress.seconds_left
    return None


def _left(state: State, whole: float | None) -> float | None:
    if state.name in {"done", "failed", "blocked"}:
        return 0.0
    if state.progress is not None and state.name == "running":
        if state.progress.seconds_left is not None:
            return state.progress.seconds_left
        if whole is not None:
            return whole * (1 - state.progress.done)
    return None if whole is None else max(0.1 * whole, whole - state.seconds)


def _overhead(job: Job) -> float:
    return STARTING + PER_FIT * job.work.fits


def _units(job: Job, receipts: Mapping[tuple[str, str], Receipt]) -> float | None:
    """Floating-point operations of a training job; None for others, and where its data is not known yet."""
    work = job.work
    if not work.fits or not work.weights:
        return None
    found = [receipts[work.task, language] for language in work.languages if (work.task, language) in receipts]
    alike = found or [receipt for (task, _), receipt in receipts.items() if task == work.task]
    rows = [receipt.rows["train"] for receipt in alike if receipt.rows.get("train")]
    length = _mean_length(alike) or TOKENS
    train_rows = sum(rows) / len(rows) if rows else work.rows
    if work.steps is not None:
        trained = work.steps * work.batch * length
    elif train_rows is None:
        return None
    else:
        trained = (work.epochs or 1) * train_rows * length
    evaluated = sum(receipt.tokens.get("validation", 0) for receipt in alike) / max(1, len(alike))
    return work.weights * (6.0 * trained * work.fits + 2.0 * evaluated * work.measured)


def _mean_length(receipts: Sequence[Receipt]) -> float | None:
    rows = sum(receipt.rows.get("train", 0) for receipt in receipts)
    return sum(receipt.tokens.get("train", 0) for receipt in receipts) / rows if rows else None


def _receipts(plan: Plan) -> dict[tuple[str, str], Receipt]:
    found = {}
    for job in plan.of_kind("tokenise"):
        work = job.work
        path = receipt_path(plan.study.receipts, work.task, work.languages[0], work.seed)
        if (receipt := read_receipt(path)) is not None:
            found[work.task, work.languages[0]] = receipt
    return found


@cache
def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
