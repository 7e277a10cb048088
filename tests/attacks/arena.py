"""Where a case of bad input is tried: a process of its own, with bounds, whose writes are watched."""

import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.cases import AttackedWorld, Case
from tests.support.trials import World

SECONDS = 30
MEGABYTES = 2000
_MOST_MEMORY = 4 * 2**30  # of a case, so that none takes the machine down
_MOST_WRITTEN = 2**30
_MOST_PROCESSES = 20
_CROWD = f"of more than {_MOST_PROCESSES} processes"
_NEW = "new: "
_ERROR = "lnsub: error: "
_REMARK = re.compile(r"skipped|left out|cannot be read|not drawn|not shown", re.I)
_SCREEN = re.compile(r"[^\x20-\x7e\n\t\r\x1b\u00a0-\U0010ffff]|\x1b|[\u2028\u2029]")


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        kind: its kind.
        case: the case.
        args: the arguments of `lnsub`.
        stderr: what the command said there.
        seconds: how long it took.
        megabytes: the most memory that it had, that of all imports included.
        problems: what is wrong with that; of a right refusal nothing.
    """

    kind: str
    case: Case
    args: list[str]
    stderr: str
    seconds: float
    megabytes: float
    problems: dict[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    kind: str
    case: Case
    folder: Path
    notes: Path
    begun: float


class Arena:
    """Runs cases, some at once, in a world.

    Args:
        world: where everything is.
        jobs: how many cases at once.
    """

    def __init__(self, world: AttackedWorld, jobs: int) -> None:
        self.world = world
        self.jobs = jobs
        self._untouched = {path: _facts(path) for path in (*world.path.iterdir(),) if path.name not in _MOVING}
        self._running: dict[int, _Running] = {}
        self._count = 0

    def run(self, cases: Iterator[tuple[str, Case]]) -> Iterator[Outcome]:
        """Runs cases; yields what came of each, in the order of their ends."""
        try:
            for kind, case in cases:
                self._start(kind, case)
                while len(self._running) >= self.jobs:
                    yield self._next()
            while self._running:
                yield self._next()
        finally:
            for pid in self._running:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _start(self, kind: str, case: Case) -> None:
        self._count += 1
        folder, notes = (self.world.path / part / str(self._count) for part in ("cases", "notes"))
        for path in (folder, notes):
            path.mkdir(parents=True)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _be(case, folder, notes, self.world)
        self._running[pid] = _Running(kind, case, folder, notes, time.monotonic())

    def _next(self) -> Outcome:
        """Waits for a case to end, and ends those whose time is up."""
        while True:
            for pid, one in self._running.items():
                done, status, usage = os.wait4(pid, os.WNOHANG)
                if done:
                    return self._ended(pid, status, usage)
                # What the case needs to make its folder is not the command's.
                if time.monotonic() - one.begun > 2 * SECONDS or _command_seconds(one.notes) > SECONDS:
                    os.killpg(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _ended(self, pid: int, status: int, usage: resource.struct_rusage) -> Outcome:
        one = self._running.pop(pid)
        with suppress(ProcessLookupError):  # what the command has left running
            os.killpg(pid, signal.SIGKILL)
        seconds = _command_seconds(one.notes)
        texts = {name: _text(one.notes / name) for name in ("stdout", "stderr", "broken", "violations")}
        if texts["broken"] or not (one.notes / "before.json").exists():
            raise SystemExit(f"{one.case.name}: the case itself is broken:\n{texts['broken'] or texts['stderr']}")
        before = json.loads((one.notes / "before.json").read_text())
        outcome = Outcome(one.kind, one.case, before["args"], texts["stderr"], seconds, usage.ru_maxrss / 1024)
        written = _differing(before["files"], _files(one.folder)) + sorted(set(_left(texts["violations"])))
        written += [str(path) for path, facts in self._untouched.items() if _facts(path) != facts]
        outcome.problems = _problems(outcome, os.waitstatus_to_exitcode(status), texts["stdout"], written)
        for path in (one.folder, one.notes):
            shutil.rmtree(path)
        return outcome


_MOVING = {"cases", "notes", "cache"}


def _problems(outcome: Outcome, status: int, stdout: str, written: list[str]) -> dict[str, str]:
    """What is wrong with the end of a case."""
    found, stderr = {}, outcome.stderr
    errors = [line for line in stderr.split("\n") if line.startswith(_ERROR)]
    if status == -signal.SIGKILL:
        found["hangs"] = f"no end within {SECONDS} s"
    elif "Traceback (most recent call last)" in stderr:
        found["tracebacks"] = stderr.strip().rsplit("\n", 1)[-1]
    elif outcome.case.expected == "refused" and (status, len(errors)) != (2, 1):
        found["other"] = f"status {status} and {len(errors)} errors instead of 2 and one"
    elif outcome.case.expected == "skipped" and (status, len(errors)) != (0, 0):
        found["other"] = f"status {status} and {len(errors)} errors instead of 0 and none"
    elif outcome.case.expected == "skipped" and not _REMARK.search(stderr):
        found["other"] = "no remark on what was left out"
    if crowd := [line for line in written if line.endswith(_CROWD)]:
        found["other"] = crowd[0]
    if rest := [line for line in written if line not in crowd]:
        found["writes outside"] = ", ".join(rest)
    if outcome.megabytes > MEGABYTES:
        found["too large"] = f"{outcome.megabytes:,.0f} MB"
    if characters := sorted(set(_SCREEN.findall(stderr + stdout))):
        found["control characters"] = ascii(characters)
    return found


def _be(case: Case, folder: Path, notes: Path, world: World) -> None:
    """What a case's process does; it never returns."""
    status = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_WRITTEN, _MOST_WRITTEN))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number, name in ((0, os.devnull), (1, notes / "stdout"), (2, notes / "stderr")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        os.chdir(folder)
        _move_home(folder)
        try:
            args = case.make(folder, world)
            before = {"args": args, "files": _files(folder)}
            (notes / "before.json").write_text(json.dumps(before))
        except BaseException:
            (notes / "broken").write_text(traceback.format_exc())
            raise
        (notes / "begun").touch()
        _watch_writes([folder, world.path / "cache"], notes / "violations")
        status = _command(args)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(args: list[str]) -> int:
    """Runs `lnsub` as its program does, which may also end by sys.exit()."""
    from lnsub.cli.main import main

    sys.argv = ["lnsub", *args]  # which Lightning starts once more for each further device
    try:
        return main(args)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _move_home(folder: Path) -> None:
    """Has whatever writes to the user's home or a temporary folder write into the case's, where it is found."""
    for name in ("HOME", "TMPDIR"):
        place = folder / name.lower()
        place.mkdir()
        os.environ[name] = str(place)
    tempfile.tempdir = None
    for name in ("HF_HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(folder / "home" / name.lower())


def _watch_writes(allowed: list[Path], log: Path) -> None:
    """Has this process note what Python opens for writing, makes, moves or removes beside the allowed folders.

    An attempt to make something there counts where it is there in the end. What is inside a case's folder is compared
    afterwards; what a library in C writes elsewhere goes unseen.
    """
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    inside = tuple(f"{os.path.realpath(path)}/" for path in allowed)
    started = itertools.count()
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    events = {"os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"}

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            touched = args[:1] if isinstance(args[2], int) and args[2] & writing else ()
        elif event == "os.mkdir":
            touched = () if os.path.lexists(args[0]) else args[:1]
        elif event in events:
            # Relative to a folder's handle: of a tree that is removed, whose root has been seen.
            touched = () if isinstance(args[-1], int) and args[-1] >= 0 and event in {"os.remove", "os.rmdir"} else args
        elif event in {"os.system", "subprocess.Popen", "os.fork", "os.forkpty"}:
            if next(started) == _MOST_PROCESSES:
                os.write(handle, f"{event} {_CROWD}\n".encode())
                os._exit(70)
            if args:
                os.write(handle, f"{event} {args[0]!r}\n".encode(errors="replace"))
            return
        else:
            return
        for path in touched:
            if isinstance(path, str | bytes | os.PathLike):
                place = os.path.realpath(os.fsdecode(path))
                if place != os.devnull and not f"{place}/".startswith(inside):
                    new = "" if os.path.lexists(place) else _NEW
                    os.write(handle, f"{new}{event} {place}\n".encode(errors="replace"))

    sys.addaudithook(note)


def _left(violations: str) -> Iterator[str]:
    """The notes of writes that were no vain attempts."""
    for line in violations.splitlines():
        event, _, place = line.removeprefix(_NEW).partition(" ")
        if not line.startswith(_NEW) or (
            event in {"open", "os.mkdir", "os.symlink", "os.link"} and Path(place).exists()
        ):
            yield f"{event} {place}"


def _command_seconds(notes: Path) -> float:
    """How long a case's command has been running; 0 before it has begun."""
    try:
        return time.time() - (notes / "begun").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _files(folder: Path) -> dict[str, str]:
    """What is in a case's folder, apart from its output."""
    found = {}
    for root, folders, files in os.walk(folder):
        if Path(root) == folder:
            folders[:] = [name for name in folders if name != "out"]
        for name in (*folders, *files):
            path = Path(root, name)
            found[str(path.relative_to(folder))] = _facts(path, digest=True)
    # With surrogates, which JSON carries along.
    return found


def _facts(path: Path, *, digest: bool = False) -> str:
    """A text that changes with what is at a path."""
    if path.is_dir() and not digest:
        return " ".join(_facts(inner) for inner in sorted(path.iterdir()))
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode)
    if not digest:
        return f"{path.name} {kind} {found.st_size} {found.st_mtime_ns}"
    if stat.S_ISLNK(found.st_mode):
        return f"link to {path.readlink()}"
    if not stat.S_ISREG(found.st_mode):
        return f"{kind}"
    with path.open("rb") as file:
        return f"{found.st_size} {hashlib.file_digest(file, 'blake2b').hexdigest()}"


def _differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    # Empty folders such as a temporary one that a library keeps hold nothing.
    folders = str(stat.S_IFDIR)
    return [
        ascii(path)
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path) and (before.get(path) or after.get(path)) != folders
    ]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
