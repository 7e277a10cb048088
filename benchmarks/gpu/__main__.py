"""``python -m benchmarks.gpu``: ``python -m benchmarks gpu`` with a time limit, printing results as they come."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import CONSOLE, MINUTES, measure, say
from benchmarks.gpu.device import Device
from benchmarks.harness import Row
from benchmarks.machine import as_sentence, describe


def main(args: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: with --quick only")
    parser.add_argument("--quick", action="store_true", help="toy sizes: a smoke test without meaningful results")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="timed passes (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="M", help="time limit (default: %(default)s)")
    parser.add_argument("--cudnn", action="store_true", help="let attention take cuDNN's kernels, which lnsub does not")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file, after each part")
    options = parser.parse_args(args)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        CONSOLE.print("Not run: torch sees no GPU (CUDA) here.")
        return 0
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu needs --quick: at full size it would take hours")
    machine, rows = describe(), []
    CONSOLE.print(as_sentence(machine))

    def tell(row: Row) -> None:
        rows.append(row.to_json())
        say(row)
        if options.json:
            result = {"quick": options.quick, "repeats": options.repeats, "machine": machine, "rows": rows}
            options.json.write_text(json.dumps({"gpu": result}, indent=1) + "\n", encoding="utf-8")

    measure(Device(options.device), options.quick, options.repeats, options.minutes, tell, options.cudnn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
