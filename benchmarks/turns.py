"""Training loops that take turns: each in a process of its own, which makes some steps when it is told to and waits.

A training loop belongs to whoever wrote it (Lightning, transformers) and does not stop in the middle to let another
one go on. So each runs in a process that waits for its turn after a given number of steps.
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
    """What a training loop calls: when it is about to begin, and after each step. This one never waits."""

    waited: Callable[[], float] = field(default=lambda: 0.0)
    """Seconds that the loop has waited for data so far; a loop that knows puts its own function here."""

    def begin(self) -> None:
        """The first step comes next."""

    def done(self) -> None:
        """A step is done."""


@dataclass(frozen=True)
class Report:
    """What a loop says of one turn.

    Attributes:
        seconds: that the turn took.
        waited: seconds of them in which it waited for data.
        peak: the most memory that was resident in its process so far, in bytes.
    """

    seconds: float
    waited: float
    peak: int


class _Ended(Exception):  # noqa: N818 (no error: it ends a loop)
    """No turn follows."""


class _Turns(Steps):
    """In the loop's process: waits before each turn."""

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
        train: an importable function that trains for ever; it gets ``args`` and then a :class:`Steps`, which it tells
            of its steps.
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
        """Waits until the loop is about to begin."""
        self._pipe.recv()

    def turn(self) -> None:
        """Lets the loop make its steps, and waits for them; the report is the last of ``reports``."""
        self._pipe.send(True)
        self.reports.append(self._pipe.recv())

    def close(self) -> None:
        """Ends the loop and its process; a loop that has ended by itself too."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(False)
        self._process.join(60)
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, train: Callable[..., object], args: tuple[Any, ...], steps: int) -> None:
    # Raised in the middle of a step, so that the loop tidies up: its loader's processes, its temporary folder.
    with contextlib.suppress(_Ended):
        train(*args, _Turns(pipe, steps))


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")
