"""Timing and memory measurement: interleaved cases, and work in separate processes.

A machine's speed varies over time. So alternatives are interleaved in one run, which exposes all of them to the same
variation, and the main result is the ratio of two cases within each turn. Absolute times depend on the machine as much
as on the code.
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
        name: its name in the table.
        run: the function to time. It must synchronise with the device itself.
        before: restores the initial state of each turn, untimed.
        turns: maximum number of turns, for slow alternatives; at least one.
        warm: call it once, untimed, before the first turn. Disable it for very slow alternatives.
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
        """The median turn."""
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
        """The time relative to ``reference``: the median over the turns that both have."""
        return statistics.median(mine / its for mine, its in zip(self.seconds, reference.seconds, strict=False))


@dataclass(frozen=True)
class Claim:
    """A requirement on a measurement, such as ``at most 0.30 s``, and whether it is met."""

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
        case: what was measured.
        timing: its duration; None for other measurements.
        reference: the case of the same run that ``ratio`` refers to; may be empty.
        ratio: time of this case / time of the reference.
        values: other measurements by name and unit: ``{"extra MB": 41.0}``.
        claims: requirements on the measurements. Dropped from quick runs, which use toy sizes.
    """

    case: str
    timing: Timing | None = None
    reference: str = ""
    ratio: float | None = None
    values: Mapping[str, float | int | str] = field(default_factory=dict)
    claims: Sequence[Claim] = ()

    def to_json(self) -> dict[str, Any]:
        """Converts the row to plain JSON types."""
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
    """Times alternatives turn by turn: each case once, then each case again, ``repeats`` times.

    Args:
        cases: the cases, with distinct names.
        repeats: number of turns, except for cases that set fewer.

    Returns:
        The timings by case name, in the order of the cases.
    """
    cases = list(cases)
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    gc.collect()
    gc.freeze()  # excludes existing objects from each turn's garbage collection
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
    """Makes the row of the timing ``name``, with its ratio against ``reference`` unless they are the same."""
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
    del result  # freeing it is not timed
    return taken


@dataclass(frozen=True)
class Memory:
    """A process's resident memory around some work, in bytes."""

    before: int
    """Resident memory at the start."""
    peak: int
    """Peak resident memory during the work."""

    @property
    def extra(self) -> int:
        """The additional memory of the work, including its result."""
        return self.peak - self.before


def memory_of(prepare: Callable[P, Callable[[], object]], *args: P.args, **kwargs: P.kwargs) -> Memory:
    """Measures the resident memory of some work in a separate process.

    Args:
        prepare: an importable function, called in the new process with ``args``. It prepares the inputs and returns
            the function to measure, whose result is kept alive until the end.
        args: for ``prepare``; must be picklable.
        kwargs: for ``prepare``; must be picklable.

    Returns:
        The resident memory before, and the peak. Linux only.
    """
    return in_own_process(_watched, prepare, args, kwargs)


def _watched(prepare: Callable[..., Callable[[], object]], args: Any, kwargs: Any) -> Memory:
    work = prepare(*args, **kwargs)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the current resident memory
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
    """Calls a function in a new Python process and returns its result.

    Args:
        function: an importable function (no lambda or closure); its result must be picklable.
        args: for ``function``; picklable.
        kwargs: for ``function``; picklable.

    Returns:
        Its result; its exceptions are re-raised here.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


# A child inherits the peak memory of its parent until exec. So a bare Python process, which is small, is the parent.
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
    """Runs a command in a separate process, as a user would.

    Args:
        command: the program and its arguments.
        output: file for its standard output.

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
