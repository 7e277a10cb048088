"""Timing and memory: cases that take turns in one run, and work in a process of its own.

A machine is never equally fast for long. So alternatives are timed turn by turn in one run, which lets a slow minute
hit all of them alike, and what counts is the ratio of two cases within each turn. A number of seconds alone says as
much about the machine as about the code.
"""

import gc
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
MB = 1e6
"""Bytes in what the tables call MB."""


@dataclass(frozen=True)
class Case:
    """One of the alternatives that :func:`interleave` times.

    Attributes:
        name: what the table calls it.
        run: what is timed. It waits for the device itself where there is one: ``torch.cuda.synchronize()`` is part of
            the work, not of the harness.
        before: brings back, untimed, the state that each turn starts from.
        turns: at most so many turns, for an alternative that is slow; at least one.
        warm: called once, untimed, before the first turn. Leave it off where one call takes very long.
    """

    name: str
    run: Callable[[], object]
    before: Callable[[], object] | None = None
    turns: int | None = None
    warm: bool = True


@dataclass(frozen=True)
class Timing:
    """The seconds that each turn of a case took, in the order of the turns."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def lowest(self) -> float:
        """The fastest turn."""
        return min(self.seconds)

    @property
    def highest(self) -> float:
        """The slowest turn."""
        return max(self.seconds)

    def ratio(self, reference: "Timing") -> float:
        """How many times as long as ``reference`` this takes: the median over the turns that both had."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, reference.seconds, strict=False))


@dataclass(frozen=True)
class Claim:
    """What a measurement is held against: a sentence such as ``at most 0.30 s``, and whether it holds."""

    text: str
    met: bool


def at_most(value: float, limit: float, unit: str) -> Claim:
    """Claims that ``value`` is no more than ``limit``, both in ``unit`` (``s``, ``MB``, ``x dense``, ...)."""
    return Claim(f"at most {limit:g} {unit}", value <= limit)


def at_least(value: float, limit: float, unit: str) -> Claim:
    """Claims that ``value`` is no less than ``limit``, both in ``unit``."""
    return Claim(f"at least {limit:g} {unit}", value >= limit)


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        case: what was measured, on what.
        timing: how long it took, or None for a line of other values.
        reference: the case of the same run that ``ratio`` is against; empty where there is none.
        ratio: time of this case / time of the reference.
        values: what else was measured, by a name with its unit: ``{"extra MB": 41.0}``.
        claims: what the line is held against. Dropped from quick runs, whose sizes are toys.
    """

    case: str
    timing: Timing | None = None
    reference: str = ""
    ratio: float | None = None
    values: Mapping[str, float | int | str] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    def to_json(self) -> dict[str, Any]:
        """Gives the line as plain JSON types."""
        timing = self.timing and {
            "median_s": self.timing.median,
            "min_s": self.timing.lowest,
            "max_s": self.timing.highest,
            "turns_s": list(self.timing.seconds),
        }
        claims = [{"text": claim.text, "met": bool(claim.met)} for claim in self.claims]
        return {
            "case": self.case,
            "timing": timing,
            "reference": self.reference,
            "ratio": self.ratio,
            "values": dict(self.values),
            "claims": claims,
        }


def interleave(cases: Iterable[Case], repeats: int) -> dict[str, Timing]:
    """Times alternatives turn by turn: each case once, then each case again, ``repeats`` times over.

    Args:
        cases: what to time, under different names.
        repeats: how many turns, except for cases that set fewer.

    Returns:
        The timings by the cases' names, in their order.
    """
    cases = list(cases)
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    gc.collect()
    gc.freeze()  # what is there by now need not be looked at again in each turn's collection
    try:
        for case in cases:
            if case.warm:
                _one_turn(case)
        for turn in range(repeats):
            for case in cases:
                if case.turns is None or turn < case.turns:
                    seconds[case.name].append(_one_turn(case))
    finally:
        gc.unfreeze()
    return {name: Timing(tuple(measured)) for name, measured in seconds.items()}


def row_of(
    name: str,
    timings: Mapping[str, Timing],
    reference: str,
    values: Mapping[str, float | int | str] | None = None,
    claims: Sequence[Claim] = (),
) -> Row:
    """Makes the row of the timing called ``name``, with its ratio against ``reference`` unless it is that itself."""
    alone = name == reference
    ratio = None if alone else timings[name].ratio(timings[reference])
    return Row(name, timings[name], "" if alone else reference, ratio, values or {}, claims)


def _one_turn(case: Case) -> float:
    if case.before is not None:
        case.before()
    gc.collect()
    start = time.perf_counter()
    result = case.run()
    taken = time.perf_counter() - start
    del result  # freeing it is not part of the work
    return taken


@dataclass(frozen=True)
class Memory:
    """A process's resident memory around some work, in bytes."""

    before: int
    """What was resident when the work began."""
    peak: int
    """The most that was resident while it ran."""

    @property
    def extra(self) -> int:
        """What the work needed on top, its result included."""
        return self.peak - self.before


def memory_of(prepare: Callable[P, Callable[[], object]], *args: P.args, **kwargs: P.kwargs) -> Memory:
    """Measures the resident memory that some work takes, in a process of its own.

    Args:
        prepare: a function of a module, called in the new process with ``args``. It makes what the work needs and
            returns the work, which is then run and watched; what it returns is alive until the end.
        args: for ``prepare``; must be picklable.
        kwargs: likewise.

    Returns:
        What was resident before, and the high-water mark. Linux only.
    """
    return in_own_process(_watched, prepare, args, kwargs)


def _watched(prepare: Callable[..., Callable[[], object]], args: Any, kwargs: Any) -> Memory:
    work = prepare(*args, **kwargs)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew from what is resident now
    before = _status_bytes("VmRSS")
    result = work()
    peak = _status_bytes("VmHWM")
    del result
    return Memory(before, peak)


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def in_own_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a module's function in a new Python process, which shares nothing with this one, and waits for its result.

    Args:
        function: importable, so not a lambda and not a closure; its result is pickled.
        args: for ``function``; picklable.
        kwargs: likewise.

    Returns:
        What it returned; an exception of it is raised here.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


# A process's high-water mark is at least that of the one that started it, up to the moment of exec: so a bare Python
# stands between, which is small.
_LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.fork()
if child == 0:
    os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)]))
"""


def measure_command(command: Sequence[str], output: Path) -> tuple[float, int]:
    """Runs a command as a user would, in a process of its own.

    Args:
        command: the program and its arguments.
        output: where its standard output goes.

    Returns:
        Seconds from start to end, and the peak of its resident memory in bytes.

    Raises:
        RuntimeError: it did not exit with status 0.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(output), *command]
    seconds, peak, status = json.loads(subprocess.run(launcher, check=True, stdout=subprocess.PIPE).stdout)
    if status:
        raise RuntimeError(f"{' '.join(command[:4])} ... ended with status {status}")
    return seconds, peak
