"""``python -m benchmarks.gpu_counts``: the counts on the null GPU, by an interpreter with a CUDA build of torch."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.gpu_counts import HERE, LAYERS, VARIANTS, Checkout, loading, pieces, steps
from benchmarks.gpu_counts.launch import why_not
from benchmarks.harness import Row
from benchmarks.machine import describe
from benchmarks.tables import as_line


def main(args: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_counts", description=__doc__)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an older checkout, to count beside this one")
    parser.add_argument("--quick", action="store_true", help="two layers, and nothing that is compiled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file, after each row")
    options = parser.parse_args(args)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if reason := why_not(sys.executable):
        console.print(reason)
        return 2
    now = Checkout("now" if options.before else "", HERE)
    checkouts = [Checkout("before", options.before.resolve()), now] if options.before else [now]
    variants = [variant for variant in VARIANTS if not (options.quick and variant.compiled)]
    layers = 2 if options.quick else LAYERS
    tables: dict[str, Callable[[], Iterable[Row]]] = {
        "gpu_steps": lambda: steps(sys.executable, checkouts, variants, layers),
        "gpu_pieces": lambda: pieces(sys.executable, checkouts, layers),
        "gpu_loading": lambda: loading(sys.executable, checkouts),
    }
    machine = describe()
    results: dict[str, dict[str, object]] = {}
    for name, rows in tables.items():
        found: list[dict[str, object]] = []
        results[name] = {"quick": options.quick, "repeats": 1, "columns": True, "machine": machine, "rows": found}
        for row in rows():
            found.append(row.to_json())
            console.print(as_line(found[-1]))
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
