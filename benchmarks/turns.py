"""Interleaved training loops: each runs in a process of its own that pauses after a given number of steps.

The loops of libraries (Lightning, transformers) cannot be paused from outside, so each process blocks inside a step
callback until its next turn.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass
class Steps:
    """The callbacks of a training loop, before the first and after each step. This implementation never blocks."""

    waited: Callable[[], float] = field(default=lambda: 0.0)
    """Returns the seconds that the loop has waited for data so far; set by loops that measure it."""

    def begin(self) -> None:
        """Called before the first step."""

    def done(self) -> None:
        """Called after each step."""


@dataclass(frozen=True)
class Report:
    """The measurements of one turn.

    Attributes:
        seconds: duration.
        waited: seconds of it spent waiting for data.
        peak: peak resident memory of the process so far, in bytes.
    """

    seconds: float
    waited: float
    peak: int


class _Ended(Exception):  # noqa: N818 (not an error: it ends a loop)
    """There are no more turns."""


class _Turns(Steps):
    """The callbacks in the loop's process, which block before each turn."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        super().__init__()
        self._pipe = pipe
        self._steps = steps

    def begin(self) -> None:
        self._pipe.send(None)
        self._wait()

    def done(self) -> None:
        self._left -= 1
        if not self._left:
            seconds = time.perf_counter() - self._start
            self._pipe.send(Report(seconds, self.waited() - self._waited, _peak()))
            self._wait()

    def _wait(self) -> None:
        if not self._pipe.recv():
            raise _Ended
        self._left = self._steps
        self._waited = self.waited()
        self._start = time.perf_counter()


class Loop:
    """A training loop in a process of its own.

    Args:
        train: an importable function that trains indefinitely; it gets ``args`` and a :class:`Steps` to report to.
        args: picklable.
        steps: optimizer steps in a turn.
    """

    def __init__(self, train: Callable[..., object], *args: Any, steps: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, train, args, steps))
        self._process.start()
        other.close()
        self.reports: list[Report] = []

    def ready(self) -> None:
        """Waits until the loop is ready for its first step."""
        self._pipe.recv()

    def turn(self) -> None:
        """Runs one turn of the loop; appends to ``reports``."""
        self._pipe.send(True)
        self.reports.append(self._pipe.recv())

    def close(self) -> None:
        """Ends the loop and its process, unless they have ended already."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(False)
        self._process.join(60)
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, train: Callable[..., object], args: tuple[Any, ...], steps: int) -> None:
    # Raised inside a step, so that the loop cleans up its loader processes and temporary folder.
    with contextlib.suppress(_Ended):
        train(*args, _Turns(pipe, steps))


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")
