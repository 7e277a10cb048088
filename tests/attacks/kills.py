"""The kill matrix: runs of every shape, killed right after their checkpoints and started again, must end the same.

::

    python -m tests.attacks.kills --runs 96 --processes 1 2 --seed 1 --table docs/attacks.md
    python -m tests.attacks.kills --each --processes 1 2 --table docs/attacks.md

A run's shape is what ends its rounds, when it validates, how many workers load its data and how many processes train.
With ``--runs`` the runs take the shapes in turn; each is killed by SIGKILL, with all its processes, after one, two or
more further checkpoints, again and again until it is done. With ``--each``, each shape's run is killed after every one
of its checkpoints, and a copy of what each kill left is run to its end. Then tickets, results, the last weights and
metrics.csv must be those of the run that nothing disturbed, to the bit. Unlike :mod:`tests.soak`, which kills at random
moments, this meets every state that a run can be resumed from.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.sections import replace_section
from tests.support.trials import Trial, World, differing, new_place, outcome

BOUNDS: dict[str, dict[str, Any]] = {
    "epochs": {"trainer.max_epochs": 2},
    "steps": {"trainer.max_epochs": -1, "trainer.max_steps": 4},
    "both, steps first": {"trainer.max_epochs": 2, "trainer.max_steps": 4},
    "both, epochs first": {"trainer.max_epochs": 1, "trainer.max_steps": 4},
}
"""What ends a round: an epoch has three steps."""

VALIDATION: dict[str, dict[str, Any]] = {
    "by epoch": {},
    "by interval": {"trainer.check_val_every_n_epoch": "null", "trainer.val_check_interval": 2},
    "amid epochs": {"trainer.val_check_interval": 0.7},
}
WORKERS = (0, 2)
GAPS = (1, 1, 2, 3, 5, 8)
"""How many checkpoints a start may write before it is killed; one of these is drawn."""


@dataclass(frozen=True)
class Shape:
    """A cell of the matrix: keys of :data:`BOUNDS` and :data:`VALIDATION`, and numbers of workers and processes."""

    bound: str
    validation: str
    workers: int
    processes: int

    def __str__(self) -> str:
        return f"{self.bound}; validation {self.validation}; {self.workers} workers; {self.processes} processes"

    def command(self, world: World, output: Path, every: int | None) -> list[str]:
        """The command line of such a run."""
        batch = {"data.init_args.batch_size": 22 // self.processes, "data.init_args.num_workers": self.workers}
        changes = {**batch, **BOUNDS[self.bound], **VALIDATION[self.validation]}
        return world.command(self.processes, changes, output, every)


@dataclass
class Matrix:
    """What has been tried, and what came of it.

    Attributes:
        world: where everything is.
        wrong: what differed, a line each.
    """

    world: World
    wrong: list[str] = field(default_factory=list)
    _tallies: dict[int, Counter[str]] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)
    _expected: dict[Shape, dict[str, Any]] = field(default_factory=dict)
    _runs: int = 0

    @property
    def kills(self) -> int:
        """How many there have been."""
        return sum(tally["kills"] for tally in self._tallies.values())

    def _count(self, shape: Shape, what: str) -> None:
        self._tallies.setdefault(shape.processes, Counter())[what] += 1

    def often(self, shape: Shape, rng: random.Random) -> None:
        """Kills one run again and again, after as many further checkpoints as ``rng`` says."""
        self._expect(shape)
        output, every, gaps = self._new(), rng.choice([1, 1, 2]), []
        while True:
            gaps.append(rng.choice(GAPS))
            if not self._start(shape, output, every, kill_after=gaps[-1]):
                break
        self._compare(shape, output, f"every {every} steps, killed after {gaps[:-1]} checkpoints")

    def each(self, shape: Shape) -> None:
        """Kills a run after each of its checkpoints, and lets a copy of what is left run to its end."""
        self._expect(shape)
        output, count = self._new(), 0
        while self._start(shape, output, 1, kill_after=1):
            count += 1
            left = self.world.path / "left"
            shutil.copytree(output, left)
            self._start(shape, output, 1)
            self._compare(shape, output, f"killed after checkpoint {count}")
            left.rename(output)
        self._compare(shape, output, f"killed after each of {count} checkpoints")

    def say(self, text: str) -> None:
        """Writes a line with the time."""
        sys.stdout.write(f"[{time.monotonic() - self._begun:6.0f} s] {text}\n")
        sys.stdout.flush()

    def table(self, shapes: list[Shape], seed: int) -> str:
        """What has been tried, by number of processes."""
        lines = [
            f"Seed {seed}:\n\n",
            "| processes | shapes | comparisons | kills | different |\n",
            "| ---: | ---: | ---: | ---: | ---: |\n",
        ]
        for processes, tally in sorted(self._tallies.items()):
            of_these = sum(shape.processes == processes for shape in shapes)
            counts = " | ".join(f"{tally[what]:,}" for what in ("compared", "kills", "different"))
            lines.append(f"| {processes} | {of_these} | {counts} |\n")
        return "".join(lines)

    def _new(self) -> Path:
        self._runs += 1
        return self.world.path / "runs" / str(self._runs)

    def _expect(self, shape: Shape) -> None:
        """Has the undisturbed run's outcome: it saves between rounds only, and its data is loaded by no worker."""
        alike = Shape(shape.bound, shape.validation, 0, shape.processes)
        if alike not in self._expected:
            output = self._new()
            self._start(alike, output, None)
            self._expected[alike] = outcome(_folder(output))
            shutil.rmtree(output)
        self._expected[shape] = self._expected[alike]

    def _start(self, shape: Shape, output: Path, every: int | None, *, kill_after: int | None = None) -> bool:
        """Starts a run, and waits for its end; returns whether it was killed."""
        log = output.with_name(f"{output.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        prepare = (lambda: None) if kill_after is None else _killer(kill_after)
        trial = Trial.start(shape.command(self.world, output, every), shape.processes, log, prepare)
        statuses = trial.wait()
        if -signal.SIGKILL in statuses:
            self._count(shape, "kills")
            return True
        if any(statuses):
            raise SystemExit(f"{shape}, in {output}, ended with {statuses}:\n{log.read_text()[-3000:]}")
        return False

    def _compare(self, shape: Shape, output: Path, what: str) -> None:
        found = outcome(_folder(output))
        self._count(shape, "compared")
        if found != self._expected[shape]:
            self._count(shape, "different")
            self.wrong.append(f"{shape}; {what}: {differing(found, self._expected[shape])}")
            self.say(self.wrong[-1])
            output.rename(output.with_name(f"{output.name}-wrong-{len(self.wrong)}"))
        else:
            shutil.rmtree(output)


def _folder(output: Path) -> Path:
    return output / "xnli" / "en" / "seed57"


def _killer(count: int) -> Callable[[], None]:
    """What has a trial's processes killed once they have written so many checkpoints."""

    def prepare() -> None:
        from lnsub.training.checkpoints import Checkpoints

        save, written = Checkpoints.save, itertools.count(1)

        def save_and_die(*args: Any, **kwargs: Any) -> None:
            save(*args, **{**kwargs, "wait": True})  # so that the checkpoint is there
            if next(written) == count:
                if os.getpgrp() == os.getppid() or os.getpgid(os.getppid()) == os.getpgrp():
                    raise AssertionError("the trial has no process group of its own")
                os.killpg(0, signal.SIGKILL)

        Checkpoints.save = save_and_die  # type: ignore[method-assign]

    return prepare


def main() -> int:
    """Runs the matrix from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--bounds", nargs="+", choices=list(BOUNDS), default=list(BOUNDS))
    parser.add_argument("--validation", nargs="+", choices=list(VALIDATION), default=list(VALIDATION))
    parser.add_argument("--workers", nargs="+", type=int, choices=WORKERS, default=list(WORKERS))
    parser.add_argument("--processes", nargs="+", type=int, default=[1])
    parser.add_argument("--table", type=Path, metavar="F", help="write the table to its section of a Markdown file")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    path = new_place("kills")
    world = World(path)
    world.make()
    matrix = Matrix(world)
    parts = (options.bounds, options.validation, options.workers, options.processes)
    shapes = [Shape(*cell) for cell in itertools.product(*parts)]
    rng = random.Random(options.seed)
    for shape in shapes if options.each else []:
        matrix.each(shape)
        matrix.say(f"each, {shape}: {matrix.kills} kills, {len(matrix.wrong)} different so far")
    for number in range(options.runs):
        matrix.often(shapes[number % len(shapes)], rng)
        matrix.say(f"run {number + 1}/{options.runs}, {shapes[number % len(shapes)]}: {matrix.kills} kills so far")
    matrix.say(f"{len(shapes)} shapes, {matrix.kills} kills, {len(matrix.wrong)} different")
    if options.table:
        replace_section(options.table, "kills" if options.each else "drawn kills", matrix.table(shapes, options.seed))
    if matrix.wrong:
        sys.stdout.write(f"What differs is in {path / 'runs'}.\n")
        return 1
    shutil.rmtree(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
