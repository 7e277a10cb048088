"""Bad records and settings in a tree of runs: a report goes on without them and says so, a run refuses some."""

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from tests.attacks.cases import Case, copy_of_runs, fifo, fit, the_run
from tests.attacks.settings import FILES
from tests.support.trials import World

Change = Callable[[Path], object]

VALUES: dict[str, str] = {
    "a list": "[1, 2]",
    "an object": '{"a": 1}',
    "true": "true",
    "5,000 digits": "9" * 5000,
    "more than 64 bits": "1" + "0" * 30,
    "half a surrogate": '"\\ud800"',
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "100,000 objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "200 levels": "[" * 200 + "]" * 200,
    "nothing": "",
    "a bare word": "hello",
    "an open text": '"hello',
    "a hexadecimal number": "0x10",
    "a leading zero": "0123",
}
"""What no field of a record may be, as JSON or almost."""

WRONG_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", '"many"', "-1.5", "null"]
NUMBERS = ("sparsity", "n", "wall_s", "seed")

LINES: dict[str, bytes] = {
    "half a record": b'{"kind": "imp", "task": "xn',
    "a list": b"[]",
    "a text": b'"a record"',
    "a number": b"7",
    "null": b"null",
    "an empty object": b"{}",
    "binary": b"\xff\xfe\x00\x80",
    "zeros": bytes(500),
    "a bracket 200,000 times": b"[" * 200_000,
    "UTF-16": '{"kind": "imp"}'.encode("utf-16"),
    "YAML": b"kind: imp",
    "two records": b'{"kind": "imp"} {"kind": "imp"}',
    "a line of 5 MB": b'{"kind": "' + b"x" * 5_000_000,
    "a BOM": b"\xef\xbb\xbf{}",
    "a Python object": b"{'kind': 'imp'}",
    "a separator alone": "\u2028".encode(),
    "an escape": b"\x1b[2J\x1b]0;owned\x07",
    "a formula": b'=cmd|"/c calc"!A0',
}

UNREADABLE = sorted(  # of the files of settings: those that are no YAML within the bounds
    {
        *(
            "unclosed",
            "a tab",
            "binary",
            "zeros",
            "Latin-1",
            "UTF-16",
            "a bomb",
            "part of itself",
            "an alias of nothing",
        ),
        *("100,000 levels", "100,000 levels of objects", "100,000 levels of dashes", "3 MB of a name", "5,000 digits"),
        *("hexadecimal digits", "Python code", "a Python name", "an unknown tag", "several documents"),
        *("control characters", "half a surrogate", "many merged aliases", "200,000 keys", "an impossible date"),
    }
)


def cases(rng: random.Random) -> Iterator[Case]:
    """Bad records without end."""
    from lnsub.runs.records import Record

    names = [field.name for field in fields(Record)]
    listed = [*_lines(names), *_places(), *_settings(), *_resumed(), *_transfers()]
    rng.shuffle(listed)
    yield from listed
    for number in itertools.count(1):
        seed = rng.randrange(2**32)
        how = rng.choice(["cut", "flipped", "mixed", "typed"])
        yield Case(f"records: {number}: {how}", _report(partial(_spoil, how=how, seed=seed)), "skipped")


def _report(change: Change) -> Callable[[Path, World], list[str]]:
    """A report of a tree in which something was changed."""

    def make(folder: Path, world: World) -> list[str]:
        run = copy_of_runs(folder, world)
        change(run)
        return ["report", "out", "--output=out/report.html", "--sparsities=0.3"]

    return make


def _added(line: bytes) -> Change:
    """A line among the records."""

    def change(run: Path) -> None:
        path = run / "results.jsonl"
        whole = path.read_bytes()
        path.write_bytes(line + b"\n" + whole + line + b"\n" + whole.split(b"\n")[0] + b"\n")

    return change


def _lines(names: list[str]) -> Iterator[Case]:
    wrong = [(name, what, text) for name in names for what, text in VALUES.items()]
    wrong += [(name, text, text) for name in NUMBERS for text in WRONG_NUMBERS]
    wrong += [("sparsity", text, text) for text in ("-0.1", "1.5")]
    wrong += [("n", "-1", "-1"), ("layer", "-1", "-1"), ("layer", "10**15", "1" + "0" * 15)]
    for name, what, text in wrong:
        if name == "wall_s" and text == "-1.5":
            continue  # of a clock that was set back
        yield Case(f"records: {name}: {what}", _report(_field(name, text)), "skipped")
    for what, line in LINES.items():
        yield Case(f"records: a line of {what}", _report(_added(line)), "skipped")
        yield Case(
            f"records: nothing but {what}",
            _report(_written("results.jsonl", line)),
            "skipped",
        )
    for name in ("kind", "task", "value", "sparsity", "seed", "metric"):
        yield Case(f"records: without {name}", _report(_field(name, None)), "skipped")


def _field(name: str, text: str | None) -> Change:
    """A record with one field's JSON replaced, or without it."""

    def change(run: Path) -> None:
        row = json.loads((run / "results.jsonl").read_text().splitlines()[0])
        row.pop(name, None)
        line = json.dumps(row)
        if text is not None:
            line = f'{line[:-1]}, "{name}": {text}}}'
        _added(line.encode())(run)

    return change


def _places() -> Iterator[Case]:
    for name in ("results.jsonl", "tickets/s0.30.safetensors", "config.yaml"):
        for what, change in _odd(name).items():
            yield Case(f"records: {what} as {name}", _report(change), "skipped")
    yield Case("records: a gigabyte of nothing", _report(_sparse), "skipped")
    yield Case("records: a ticket that is cut off", _report(_cut("tickets/s0.30.safetensors")), "skipped")
    yield Case("records: a ticket with a flipped bit", _report(_flip("tickets/s0.30.safetensors")), "skipped")


def _sparse(run: Path) -> None:
    os.truncate(run / "results.jsonl", 2**30)


def _odd(name: str) -> dict[str, Change]:
    """What may be in the place of a file."""

    def folder(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    def device(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to("/dev/zero")

    return {"a FIFO": lambda run: fifo(run / name), "a folder": folder, "a device": device}


def _cut(name: str) -> Change:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-20])


def _flip(name: str) -> Change:
    def change(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[-1] ^= 1
        (run / name).write_bytes(content)

    return change


def _settings() -> Iterator[Case]:
    for what in UNREADABLE:
        change = _written("config.yaml", FILES[what])
        yield Case(f"records: settings of {what}", _report(change), "skipped")


def _written(name: str, content: bytes) -> Change:
    return lambda run: (run / name).write_bytes(content)


def _resumed() -> Iterator[Case]:
    """Runs that are resumed: bad lines are skipped, what is no file is refused."""

    def resumed(change: Change) -> Callable[[Path, World], list[str]]:
        def make(folder: Path, world: World) -> list[str]:
            change(copy_of_runs(folder, world))
            return fit(folder, world, [("trainer.max_epochs", 1)])

        return make

    for what, line in LINES.items():
        yield Case(f"records: a run resumed after a line of {what}", resumed(_added(line)), "skipped")
    for what, change in _odd("results.jsonl").items():
        yield Case(f"records: a run resumed with {what} for records", resumed(change))
    for what, change in _odd("checkpoints/last.ckpt").items():
        yield Case(f"records: a run resumed with {what} for a checkpoint", resumed(change))


def _transfers() -> Iterator[Case]:
    """Transfers with a bad note of a failure, or bad settings."""

    def listed(name: str, put: Change) -> Callable[[Path, World], list[str]]:
        def make(folder: Path, world: World) -> list[str]:
            there = the_run(world)
            put(_made(folder / "out" / "t" / name))
            command = ["transfer", f"--config={there.config}", f"--tickets={there.ticket}", "--languages=en"]
            return [*command, "--output=out/t"]

        return make

    for what in UNREADABLE:
        content = FILES[what]
        yield Case(
            f"records: a transfer with settings of {what}", listed("xnli.yaml", partial(Path.write_bytes, data=content))
        )
    yield Case("records: a transfer with a FIFO for settings", listed("xnli.yaml", lambda path: fifo(path)))
    yield Case("records: a transfer with a folder for settings", listed("xnli.yaml", lambda path: path.mkdir()))
    yield Case("records: a transfer with a file for cells", listed("cells", lambda path: path.write_text("x")))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path


def _spoil(run: Path, how: str, seed: int) -> None:
    """Spoils the records at random places, at least one of them beyond doubt."""
    rng = random.Random(seed)
    path = run / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = rng.randrange(len(lines))
    if how == "cut":
        lines[place] = lines[place][: rng.randint(1, len(lines[place]) - 3)] + b"\n"
    elif how == "flipped":
        line = bytearray(lines[place])
        line[0] ^= 1 << rng.randrange(7)  # the brace
        lines[place] = bytes(line) if line[0] not in b" \t\r\n\x0b\x0c" else b"x" + bytes(line)
    elif how == "mixed":
        line = bytearray(lines[place].rstrip(b"\n"))
        for _ in range(rng.randint(1, 50)):
            line[rng.randrange(len(line))] = rng.choice([*range(11, 256)])
        lines[place] = bytes(line)[:-1] + b"\n"
    else:
        row: dict[str, Any] = json.loads(lines[place])
        for name in rng.sample(list(row), 3):
            row[name] = rng.choice([[], {}, [None], {"a": [1]}, True, False, 10**25])
        lines[place] = json.dumps(row).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    if rng.random() < 0.2:
        shutil.copy(path, run / "tickets" / "results.jsonl")
