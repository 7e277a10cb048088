"""Full disks: small commands whose output, or whose datasets cache, is on a disk that fills up at another moment each.

::

    python -m tests.attacks.full_disk --seed 1
    python -m tests.attacks.full_disk --steps 20 --commands fit

A command writes to a file system in memory of a few kilobytes, mounted for it (which root may do). Where that is too
little, the command has to stop with one line which says that the disk is full, with every file at its final name whole.
Once the file system is made larger, the same command must end as if nothing had been.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.sections import replace_section
from tests.support.small_commands import (
    COMMANDS,
    WHOLE_OR_REFUSED,
    Bench,
    differing_files,
    files,
    half_written,
    told_wrongly,
)
from tests.support.trials import new_place

PAGE = 4
"""What such a file system is made of, in kB; the least that a file takes."""


@dataclass
class Disks:
    """What was tried on full disks, and what came of it.

    Attributes:
        bench: where commands are tried.
        full: how many trials of each command and place met a full disk.
        wrong: what was wrong, a paragraph each.
    """

    bench: Bench
    full: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def try_sizes(self, command: str, cached: bool, steps: int, rng: random.Random) -> None:
        """Tries a command on disks of several sizes, up to what it needs at its end.

        Args:
            command: one of :data:`COMMANDS`.
            cached: whether it is the cache that is on the disk, rather than the output.
            steps: how many sizes; fewer where it needs fewer pages.
            rng: draws a size within each step.
        """
        place = self.bench.cache if cached else self.bench.place
        with _disk(place, 2**20):
            self._run(command)
            expected = files(self.bench.output)
            needed = int(subprocess.check_output(["du", "-sk", place], text=True).split()[0])
            self.bench.empty()
        pages = needed // PAGE
        for step in range(min(steps, pages - 1)):
            low, high = (1 + (pages - 1) * part // min(steps, pages - 1) for part in (step, step + 1))
            self._try(command, place, PAGE * rng.randrange(low, max(high, low + 1)), 0, expected)
        # A disk is full, too, where there is room for no other file; this has one, beside the folder itself.
        self._try(command, place, 2**20, 2, expected)

    def _try(self, command: str, place: Path, size: int, inodes: int, expected: dict[str, Any]) -> None:
        with _disk(place, size, inodes):
            try:
                status, said = self.bench.run(self.bench.arguments(command))
                problems = told_wrongly(status, said)
                if status:
                    self.full[f"{command}, {place.name}"] += 1
                    if "disk is full" not in said:
                        problems.append("it does not say that the disk is full")
                if half := half_written(self.bench.output, expected):
                    problems.append(f"half-written: {half}")
                subprocess.run(["mount", "-o", "remount,size=1g,nr_inodes=0", place], check=True)
                if command not in WHOLE_OR_REFUSED or files(self.bench.output) != expected:
                    self._run(command)
                if differing := differing_files(files(self.bench.output), expected):
                    problems.append(f"with space, the same command ends differently: {differing}")
            except Exception as error:  # whatever reading a damaged file raises
                problems.append(f"damaged: {type(error).__name__}: {error}")
            finally:
                self.bench.empty()
        if problems:
            end = "\n  ".join(said.strip().splitlines()[-4:])
            room = f"{inodes} files" if inodes else f"{size} kB"
            self.wrong.append(f"{command} with {room} for {place.name}: {'; '.join(problems)}\n  {end[-1500:]}")

    def _run(self, command: str) -> None:
        status, said = self.bench.run(self.bench.arguments(command))
        if status:
            raise RuntimeError(f"with space, {command} ends with {status}: {said[-1000:]}")


@contextmanager
def _disk(place: Path, size: int, inodes: int = 0) -> Iterator[None]:
    """Has a folder be a file system of its own, of so many kB and files (0: any); nothing of it is left afterwards."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k,nr_inodes={inodes}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        if subprocess.run(["umount", place], check=False).returncode:
            subprocess.run(["umount", "--lazy", place], check=True)


def may_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False)
        return mounted.returncode == 0 and subprocess.run(["umount", place], check=False).returncode == 0


def main() -> int:
    """Fills disks, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="how many sizes for each command and place")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--table", type=Path, metavar="F", help="write the table to its section of a Markdown file")
    options = parser.parse_args()
    if not may_mount():
        sys.stdout.write("skipped: mounting a file system is not allowed here\n")
        return 77
    sys.stdout.write(f"seed {options.seed}\n")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # so that nothing stays mounted
    path = new_place("disks")
    rng = random.Random(options.seed)
    try:
        disks = Disks(Bench.make(path))
        for command in options.commands:
            disks.try_sizes(command, False, options.steps, rng)
        for command in [name for name in options.commands if name in {"fit", "transfer"}]:
            disks.try_sizes(command, True, options.steps, rng)
    finally:
        shutil.rmtree(path)
    for text in disks.wrong:
        sys.stdout.write(f"WRONG {text}\n")
    for what, count in disks.full.items():
        sys.stdout.write(f"{what}: full {count} times\n")
    sys.stdout.write(f"{disks.full.total()} full disks, {len(disks.wrong)} wrong\n")
    if options.table:
        lines = [f"Seed {options.seed}:\n\n| command, and what is on the disk | full disks |\n| --- | ---: |\n"]
        lines += [f"| {what} | {count} |\n" for what, count in disks.full.items()]
        lines.append(f"\nWrong: {len(disks.wrong)}.\n")
        replace_section(options.table, "full disks", "".join(lines))
    return 1 if disks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
