"""Attacks by bad input: command lines, settings, records, tickets, models and data that are wrong in a thousand ways.

::

    python -m tests.attacks.bad_input --cases 1000 --seed 1
    python -m tests.attacks.bad_input --cases 300 --kinds tickets records --keep-going
    python -m tests.attacks.bad_input --seed 1 --only "settings: trainer.max_steps: 0"
    python -m tests.attacks.bad_input --cases 2000 --seed 1 --table docs/attacks.md

Each case fills a folder of its own and runs one command there, in a process forked from one that has imported
everything. The command has to refuse the input, with exit status 2 and exactly one line on stderr that starts with
``lnsub: error: ``, or, where the case says so, to go on without it and to say so. In either case no traceback and no
control character may reach the screen, nothing may be written outside its output and the tokenised cache, and it has
half a minute and 2 GB.

A kind of attack is a module with ``cases(rng)``, which yields :class:`Case` without end: those that someone thought of
first, then drawn ones. To add a kind, write such a module and add it to :data:`KINDS`.
"""

import argparse
import gc
import importlib
import itertools
import os
import random
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.arena import Arena, Outcome
from tests.attacks.cases import AttackedWorld, Case
from tests.attacks.sections import replace_section
from tests.support.trials import new_place

KINDS = {
    "settings": "tests.attacks.settings",
    "command lines": "tests.attacks.command_lines",
    "records": "tests.attacks.records",
    "tickets": "tests.attacks.tickets",
    "model folders": "tests.attacks.model_folders",
    "data folders": "tests.attacks.data_folders",
}
"""The kinds of attack, and the modules that have their ``cases``."""

_STEPS = 10_000  # how many cases of a kind are looked through for one by name


def drawn(kinds: list[str], count: int, seed: int) -> Iterator[tuple[str, Case]]:
    """Draws cases, the kinds in turn; the same for a seed, whatever other kinds there are."""
    streams = [_cases(kind, seed) for kind in kinds]
    return itertools.islice(itertools.chain.from_iterable(zip(*streams, strict=True)), count)


def _cases(kind: str, seed: int) -> Iterator[tuple[str, Case]]:
    names: set[str] = set()
    for case in importlib.import_module(KINDS[kind]).cases(random.Random(f"{kind} {seed}")):
        if case.name in names:
            raise SystemExit(f"there are two cases named {case.name}")
        names.add(case.name)
        yield kind, case


def _named(kinds: list[str], name: str, seed: int) -> tuple[str, Case]:
    """Finds a case by its name."""
    for kind in kinds:
        for _, case in itertools.islice(_cases(kind, seed), _STEPS):
            if case.name == name:
                return kind, case
    raise SystemExit(f"there is no case {name!r} with seed {seed}")


def _told(outcome: Outcome, seed: int) -> str:
    """A case that failed, and how to run it alone."""
    command = ["python", "-m", "tests.attacks.bad_input", "--seed", str(seed), "--kinds", outcome.kind]
    problems = "; ".join(f"{what}: {text}" for what, text in outcome.problems.items())
    return (
        f"FAILED {outcome.case.name}\n  {problems[:2000]}\n  lnsub {ascii(outcome.args)[:2000]}\n"
        f"  took {outcome.seconds:.1f} s and {outcome.megabytes:,.0f} MB, and said:\n"
        + "".join(f"    {ascii(line)[1:-1]}\n" for line in outcome.stderr[-3000:].splitlines())
        + f"  alone: {shlex.join([*command, '--only', outcome.case.name])}\n"
    )


@dataclass
class Tally:
    """What came of the cases of a kind."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Counts a case."""
        self.counts["tried"] += 1
        self.counts.update(list(outcome.problems) or [outcome.case.expected])
        self.slowest, self.largest = max(self.slowest, outcome.seconds), max(self.largest, outcome.megabytes)


_COLUMNS = {
    "tried": "tried",
    "refused": "refused in one line",
    "skipped": "skipped with a remark",
    **{name: name for name in ("tracebacks", "hangs", "writes outside", "too large", "control characters", "other")},
}


def table(tallies: dict[str, Tally], seed: int) -> str:
    """What came of a run, as Markdown."""
    total = Tally(Counter(), max(t.slowest for t in tallies.values()), max(t.largest for t in tallies.values()))
    for tally in tallies.values():
        total.counts += tally.counts
    head = ["kind of attack", *_COLUMNS.values(), "slowest, s", "largest, MB"]
    rows = [
        [kind, *(f"{tally.counts[name]:,}" for name in _COLUMNS), f"{tally.slowest:.1f}", f"{tally.largest:,.0f}"]
        for kind, tally in {**tallies, "all": total}.items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    return f"Seed {seed}, {total.counts['tried']:,} cases:\n\n" + "\n".join(lines) + "\n"


def main() -> int:
    """Runs cases from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=100, help="how many, the kinds in turn")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--only", metavar="NAME", help="only the case of this name, made with the same seed")
    parser.add_argument("--jobs", type=int, default=2, help="how many cases at once")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first case that fails")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    parser.add_argument("--table", type=Path, metavar="F", help="write the table to its section of a Markdown file")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no case outlives this program
    path = new_place("bad-input")
    home = path / "home"
    home.mkdir()
    os.environ |= {"HOME": str(home), "HF_HOME": str(home / "hf")}
    os.environ.pop("PYTHONWARNINGS", None)
    try:
        world = AttackedWorld(path)
        world.make()
        cases = drawn(options.kinds, options.cases, options.seed)
        if options.only:
            cases = iter([_named(options.kinds, options.only, options.seed)])
        tallies, failed = _run(Arena(world, options.jobs), cases, options)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    text = table(tallies, options.seed)
    sys.stdout.write(text)
    if options.table:
        replace_section(options.table, "bad input", text)
    return 1 if failed else 0


def _run(
    arena: Arena, cases: Iterator[tuple[str, Case]], options: argparse.Namespace
) -> tuple[dict[str, Tally], list[Outcome]]:
    """Runs cases and tells those that fail."""
    gc.collect()
    gc.freeze()  # or each fork would copy what the collector marks
    tallies = {kind: Tally() for kind in options.kinds}
    failed, begun = [], time.monotonic()
    for number, outcome in enumerate(arena.run(cases), start=1):
        tallies[outcome.kind].add(outcome)
        if options.verbose:
            sys.stdout.write(f"{outcome.seconds:5.1f} s {outcome.megabytes:6,.0f} MB {outcome.case.name}\n")
        if outcome.problems:
            failed.append(outcome)
            sys.stdout.write(_told(outcome, options.seed))
            if not options.keep_going:
                break
        if number % 100 == 0:
            sys.stdout.write(f"[{time.monotonic() - begun:6.0f} s] {number} cases, {len(failed)} failed\n")
            sys.stdout.flush()
    return {kind: tally for kind, tally in tallies.items() if tally.counts}, failed


if __name__ == "__main__":
    sys.exit(main())
