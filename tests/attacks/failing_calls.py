"""Failing system calls: small commands, each with one call on the file system that fails, must stop in words.

::

    python -m tests.attacks.failing_calls --seed 1
    python -m tests.attacks.failing_calls --calls 300 --commands fit transfer

Each command is first run as it is, under strace, which lists its calls that open a file for writing, write, rename,
remove, sync or make a folder, below its output or the cache. Then, for one of these calls at a time, the command runs
again and strace has that call fail with ENOSPC, EIO, EACCES or EMFILE. It may go on, where the call does not matter,
or has to stop with one line that names a path; no file may be half-written under its final name; and the same command,
undisturbed, must then end as if nothing had been.

strace makes the kernel's own answer a failure, so that what C++ writes for torch, Arrow and safetensors is met like
what Python writes; an audit hook would see neither writes nor syncs.
"""

import argparse
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.sections import replace_section
from tests.support.small_commands import (
    COMMANDS,
    SECONDS,
    WHOLE_OR_REFUSED,
    Bench,
    differing_files,
    files,
    half_written,
    told_wrongly,
)
from tests.support.trials import new_place

ERRORS = {
    "openat": ("ENOSPC", "EACCES", "EMFILE", "EIO"),
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "rename": ("EIO", "ENOSPC", "EACCES"),
    "unlink": ("EACCES", "EIO"),
    "mkdir": ("ENOSPC", "EACCES", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO",),
}
"""The calls that fail, and with what."""

_LINE = re.compile(r"^(?P<call>\w+)\((?P<rest>.*)$")


@dataclass(frozen=True)
class Call:
    """A system call: the ``number``-th of its name, from 1, in a command's main thread."""

    command: str
    name: str
    number: int
    path: str


@dataclass
class Calls:
    """What has failed, and what came of it.

    Attributes:
        bench: where commands are tried.
        failed: how many calls of each command were made to fail.
        ended: exit statuses, counted.
        wrong: what was wrong, a paragraph each.
    """

    bench: Bench
    failed: Counter[str] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _expected: dict[str, dict[str, Any]] = field(default_factory=dict)

    def table(self, seed: int) -> str:
        """What has failed, by command, as Markdown."""
        lines = [f"Seed {seed}:\n\n| command | calls made to fail |\n| --- | ---: |\n"]
        lines += [f"| {command} | {count} |\n" for command, count in self.failed.items()]
        ended = ", ".join(f"{count} with status {status}" for status, count in sorted(self.ended.items()))
        return "".join([*lines, f"\nOf these runs ended: {ended}. Wrong: {len(self.wrong)}.\n"])

    def record(self, command: str) -> list[Call]:
        """Runs a command undisturbed; returns its calls that write, and keeps its outcome."""
        self.bench.empty()
        status, traces = self._traced(command, [])
        if status:
            raise SystemExit(f"{command} ended with {status}:\n{self.bench.said}")
        self._expected[command] = files(self.bench.output)
        return list(_writing(command, traces, (self.bench.place, self.bench.cache)))

    def fail(self, call: Call, error: str) -> None:
        """Has one call fail, and looks at what comes of it."""
        self.bench.empty()
        inject = f"inject={call.name}:error={error}:when={call.number}"
        status, traces = self._traced(call.command, ["-e", inject])
        failing = [line for line in traces if "(INJECTED)" in line]
        if not failing:  # the run took another turn, such as one file less read: there was no such call
            return
        self.failed[call.command] += 1
        self.ended[status] += 1
        said = self.bench.said
        problems = self._problems(call.command, status)
        if problems:
            text = "; ".join(problems)
            self.wrong.append(f"{call.command}: {error} for {failing[0]}\n  {text}\n  {_end(said)}")

    def _problems(self, command: str, status: int) -> list[str]:
        found, expected = told_wrongly(status, self.bench.said), self._expected[command]
        try:
            if half := half_written(self.bench.output, expected):
                found.append(f"half-written: {half}")
            if command not in WHOLE_OR_REFUSED or files(self.bench.output) != expected:
                again, said = self.bench.run(self.bench.arguments(command))
                if again:
                    found.append(f"the same command then ends with {again}: {_end(said)}")
                elif differing := differing_files(files(self.bench.output), expected):
                    found.append(f"the same command then ends differently: {differing}")
        except Exception as error:  # whatever reading a damaged file raises
            found.append(f"damaged: {type(error).__name__}: {error}")
        return found

    def _traced(self, command: str, options: list[str]) -> tuple[int, list[str]]:
        """Runs a command under strace; returns its exit status and the calls of its main thread."""
        folder = Path(tempfile.mkdtemp(dir=self.bench.world.path))
        trial = self.bench.start(self.bench.arguments(command), lambda: os.kill(os.getpid(), signal.SIGSTOP))
        (pid,) = trial.pids
        os.waitpid(pid, os.WUNTRACED)
        calls = f"trace={','.join(ERRORS)}"
        program = ["strace", "-ff", "-qq", "-y", "-o", str(folder / "calls"), "-e", calls, *options, "-p", str(pid)]
        with subprocess.Popen(program, stderr=subprocess.DEVNULL) as tracer:
            deadline = time.monotonic() + SECONDS
            while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
                if tracer.poll() is not None or time.monotonic() > deadline:
                    trial.kill()
                    raise SystemExit("strace cannot trace a process here")
                time.sleep(0.005)
            os.kill(pid, signal.SIGCONT)
            status = self.bench.end(trial)
        lines = (folder / f"calls.{pid}").read_text(errors="replace").splitlines()
        shutil.rmtree(folder)
        return status, lines


def _writing(command: str, lines: list[str], places: tuple[Path, ...]) -> "list[Call]":
    """The calls of a trace that change something below some folders, and that succeeded."""
    counts: Counter[str] = Counter()
    found = []
    for line in lines:
        match = _LINE.match(line)
        if not match:
            continue
        name, rest = match["call"], match["rest"]
        counts[name] += 1
        path = next((text for text in re.findall(r'["<]([^">]*)[">]', rest) if text.startswith(_inside(places))), None)
        reading = name == "openat" and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", rest)
        if path and not reading and " = -1 " not in line:
            found.append(Call(command, name, counts[name], path))
    return found


def _inside(places: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(f"{place}/" for place in places)


def _end(said: str) -> str:
    return "\n  ".join(said.strip().splitlines()[-4:])[-1500:]


def main() -> int:
    """Makes calls fail, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--calls", type=int, default=66, help="how many, the commands in turn")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--table", type=Path, metavar="F", help="write the table to its section of a Markdown file")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        sys.stdout.write("skipped: strace is not installed\n")
        return 77
    sys.stdout.write(f"seed {options.seed}\n")
    path = new_place("calls")
    try:
        calls = Calls(Bench.make(path))
        _run(calls, options)
    finally:
        shutil.rmtree(path)
    for text in calls.wrong:
        sys.stdout.write(f"WRONG {text}\n")
    ended = ", ".join(f"{count} with status {status}" for status, count in sorted(calls.ended.items()))
    sys.stdout.write(f"{calls.failed.total()} failing calls ({ended}), {len(calls.wrong)} wrong\n")
    if options.table:
        replace_section(options.table, "failing calls", calls.table(options.seed))
    return 1 if calls.wrong else 0


def _run(calls: Calls, options: argparse.Namespace) -> None:
    """Has calls of all commands fail in turn, drawn but each at most once."""
    rng = random.Random(options.seed)
    drawn = {}
    for command in options.commands:
        found = calls.record(command)
        drawn[command] = rng.sample(found, len(found))
        kinds = ", ".join(f"{count} {name}" for name, count in Counter(call.name for call in found).items())
        sys.stdout.write(f"{command} has {len(found)} calls that write: {kinds}\n")
    while calls.failed.total() < options.calls and any(drawn.values()):
        for command in options.commands:
            if drawn[command] and calls.failed.total() < options.calls:
                call = drawn[command].pop()
                calls.fail(call, rng.choice(ERRORS[call.name]))
                sys.stdout.flush()


assert all(hasattr(errno, name) for names in ERRORS.values() for name in names)

if __name__ == "__main__":
    sys.exit(main())
