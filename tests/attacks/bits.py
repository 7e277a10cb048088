"""Single bits flipped in tickets, checkpoints and tokenised tables: each is found, or changes nothing that is read.

::

    python -m tests.attacks.bits --seed 1 --table docs/attacks.md

Of a ticket's header it flips every bit; of a checkpoint, of its directory and of a table as many as are asked for.
"""

import argparse
import logging
import random
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attacks.sections import replace_section
from tests.support.trials import new_place


@dataclass(frozen=True)
class Tally:
    """What came of flipped bits.

    Attributes:
        found: how many were found.
        harmless: after how many the file read as before.
    """

    found: int
    harmless: int


def flip(path: Path, bits: Iterable[int], found: Callable[[int], bool]) -> Tally:
    """Flips bits of a file, one at a time.

    Args:
        path: the file; it is as before at the end.
        bits: their numbers.
        found: tells whether the changed file is refused, or raises AssertionError where it reads as something else.
    """
    whole = path.read_bytes()
    counts = [0, 0]
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        counts[found(bit)] += 1
    path.write_bytes(whole)
    return Tally(found=counts[True], harmless=counts[False])


def of_ticket_header(path: Path) -> Tally:
    """Flips every bit of a ticket's header, its own length included."""
    from lnsub.common.errors import UserError
    from lnsub.tickets.ticket import Ticket

    def facts() -> Any:
        ticket = Ticket.load(path)
        return ticket.provenance, ticket.shapes, ticket.checksum

    before = facts()

    def found(bit: int) -> bool:
        try:
            after = facts()
        except UserError:
            return True
        assert after == before, f"bit {bit} of a ticket's header"
        return False

    size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    return flip(path, range(8 * size), found)


def of_checkpoint(checkpoint: Path, previous: Path, count: int, rng: random.Random) -> tuple[Tally, Tally]:
    """Flips bits of a run's last checkpoint, of its parts and of its directory.

    Args:
        checkpoint: the file.
        previous: the one before, which is to be resumed from where the other is damaged.
        count: how many bits of each.
        rng: draws them.
    """
    import torch

    from lnsub.runs.folder import RunFolder
    from lnsub.training.checkpoint_files import newest_of

    folder = RunFolder(checkpoint.parent.parent)
    expected = comparable(torch.load(checkpoint, weights_only=True))
    marks = set(_marks(checkpoint))

    def found(bit: int) -> bool:
        newest = newest_of(folder)
        if newest == previous:
            assert not checkpoint.exists()
            return True
        assert newest == checkpoint
        assert bit not in marks, f"mark {bit} of a checkpoint's directory"
        assert comparable(torch.load(newest, weights_only=True)) == expected, f"bit {bit} of a checkpoint"
        return False

    with zipfile.ZipFile(checkpoint) as file:
        directory, size = file.start_dir, checkpoint.stat().st_size
    of_directory = [*rng.sample(sorted(marks), 40), *_drawn(rng, count, directory * 8, size * 8)]
    return flip(checkpoint, _drawn(rng, count, 0, directory * 8), found), flip(checkpoint, of_directory, found)


def of_table(path: Path, rows: Callable[[], Any], count: int, rng: random.Random) -> Tally:
    """Flips bits of a tokenised table, which is then to be made again as it was.

    Args:
        path: the file.
        rows: reads its rows as a new process would, which makes the table again where it is damaged.
        count: how many bits.
        rng: draws them.
    """
    whole, expected = path.read_bytes(), rows()

    def found(bit: int) -> bool:
        assert rows() == expected, f"bit {bit} of a table"
        # The same bytes again, so that processes that tokenise at once do not contradict each other.
        return path.read_bytes() == whole

    return flip(path, _drawn(rng, count, 0, 8 * len(whole)), found)


def comparable(value: Any) -> Any:
    """The contents of a checkpoint in a form that is equal only where all are."""
    import torch

    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: comparable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    return value


def _drawn(rng: random.Random, count: int, begin: int, end: int) -> list[int]:
    return [rng.randrange(begin, end) for _ in range(count)]


def _marks(checkpoint: Path) -> Iterable[int]:
    """The bits of a directory that say that a part is compressed, or is a folder."""
    whole = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as file:
        at, names = file.start_dir, [part.filename for part in file.infolist()]
    for name in names:
        at = whole.index(b"PK\x01\x02", at)
        assert whole[at + 46 : at + 46 + len(name)] == name.encode()
        yield from ((at + 10) * 8 + 3, (at + 38) * 8 + 4)
        at += 46


def main() -> int:
    """Flips bits from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--bits", type=int, default=200, help="of each file but a ticket's header, which has all flipped"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--table", type=Path, metavar="F", help="write the table to its section of a Markdown file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # a warning for each bit that is found
    path = new_place("bits")
    try:
        tallies = _all(path, options.bits, random.Random(options.seed))
    finally:
        shutil.rmtree(path)
    lines = [
        f"Seed {options.seed}:\n\n",
        "| bits of | flipped | found | harmless | unnoticed |\n",
        "| --- | ---: | ---: | ---: | ---: |\n",
        *(
            f"| {name} | {tally.found + tally.harmless:,} | {tally.found:,} | {tally.harmless:,} | 0 |\n"
            for name, tally in tallies.items()
        ),
    ]
    sys.stdout.writelines(lines)
    if options.table:
        replace_section(options.table, "bits", "".join(lines))
    return 0


def _all(path: Path, count: int, rng: random.Random) -> dict[str, Tally]:
    """Makes a run, and flips bits of its files."""
    from tests.support.trials import Trial, World

    world = World(path)
    world.make()
    output = path / "runs"
    trial = Trial.start(world.command(1, {}, output, 1), 1, path / "log")
    if trial.wait() != [0]:
        raise SystemExit((path / "log").read_text())
    run = output / "xnli" / "en" / "seed57"
    last, previous = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "previous.ckpt"
    shutil.copy(last, previous)
    parts, directory = of_checkpoint(last, previous, count, rng)

    from lnsub.data import cache
    from lnsub.tasks.xnli import XNLI

    def rows() -> Any:
        cache._checked.clear()
        return XNLI("en", str(path / "base"), str(path / "xnli"), max_length=32).table("train").to_list()

    (table,) = (path / "cache" / "lnsub").glob("xnli-en-train-*.arrow")
    return {
        "a ticket's header": of_ticket_header(run / "tickets" / "s0.30.safetensors"),
        "a checkpoint's parts": parts,
        "a checkpoint's directory": directory,
        "a tokenised table": of_table(table, rows, count, rng),
    }


if __name__ == "__main__":
    sys.exit(main())
