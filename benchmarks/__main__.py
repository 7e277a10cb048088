"""Runs benchmarks, each in a separate process; prints tables, writes JSON, and inserts the tables into the docs."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import in_own_process
from benchmarks.machine import as_sentence
from benchmarks.registry import BENCHMARKS, run_one
from benchmarks.tables import screen_table, write_into

# Without network access.
OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}


def parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    made = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all; --list names them)")
    made.add_argument("--list", action="store_true", help="list and describe the benchmarks")
    made.add_argument("--quick", action="store_true", help="toy sizes: a smoke test without meaningful results")
    made.add_argument("--repeats", type=int, default=5, metavar="N", help="turns of each case (default: %(default)s)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file")
    made.add_argument(
        "--write",
        nargs="+",
        type=Path,
        metavar=("PAGE", "FILE"),
        help="run nothing: insert the tables of FILE... (written by --json) into a Markdown page",
    )
    return made


def main(args: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status."""
    made = parser()
    options = made.parse_args(args)
    console = Console(soft_wrap=False)
    if options.list:
        for name, benchmark in BENCHMARKS.items():
            console.print(f"[bold]{name}[/]  {benchmark.shows}")
        return 0
    if options.write:
        page, *files = options.write
        if not files:
            made.error("--write takes a page and at least one file written by --json")
        console.print(f"{page}: {', '.join(write_into(page, files))}")
        return 0
    names = options.names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        made.error(f"no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    if options.repeats < 1:
        made.error("--repeats must be at least 1")
    for variable, value in OFFLINE.items():
        os.environ.setdefault(variable, value)
    results: dict[str, Any] = {}
    failed = []
    for name in names:
        console.print(f"[bold]{name}[/]: {BENCHMARKS[name].shows} ...")
        try:
            results[name] = in_own_process(run_one, name, options.quick, options.repeats)
        except (Exception, BrokenProcessPool) as error:
            failed.append(name)
            console.print(f"[bold red]{name} failed[/]: {type(error).__name__}: {error}")
            continue
        console.print(screen_table(name, results[name]))
        console.print(f"{as_sentence(results[name]['machine'])}; took {results[name]['seconds']:g} s\n")
        if options.json:  # after each, so that an interrupted run keeps its results
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unmet = sum(not claim["met"] for result in results.values() for row in result["rows"] for claim in row["claims"])
    if unmet:
        console.print(f"{unmet} claims not met.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
