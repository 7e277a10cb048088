"""The registry of benchmarks."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from benchmarks.harness import Row
from benchmarks.machine import describe


@dataclass(frozen=True)
class Benchmark:
    """A module with ``run(quick: bool, repeats: int) -> list[Row]``, and a description."""

    module: str
    shows: str

    def load(self) -> Callable[[bool, int], list[Row]]:
        """Imports the module, which may be slow, and returns its ``run``."""
        return cast(Callable[[bool, int], list[Row]], import_module(self.module).run)


BENCHMARKS: Mapping[str, Benchmark] = {
    "selection": Benchmark("benchmarks.selection", "exact pruning to a sparsity, and a whole prune-rewind-write step"),
    "overlap": Benchmark("benchmarks.overlap", "the overlap of many tickets, pair by pair"),
    "tickets": Benchmark("benchmarks.tickets", "packing, saving and loading masks; one file for a run's nested masks"),
    "compiling": Benchmark("benchmarks.compiling", "a step through torch.compile, and how often rounds compile"),
    "gpu": Benchmark("benchmarks.gpu", "mBERT on XNLI on one GPU: steps, what bounds them, and whole runs"),
    "packing": Benchmark("benchmarks.packing", "batches without padding, against padded ones"),
    "shrinking": Benchmark("benchmarks.shrinking", "the smaller dense model that a ticket of neurons stands for"),
    "vocabulary": Benchmark("benchmarks.vocabulary", "a step of mBERT's embeddings: all rows, or those in use"),
    "theta_0": Benchmark("benchmarks.theta_0", "the memory of theta_0: copied, or mapped from its checkpoint"),
    "checkpoints": Benchmark("benchmarks.checkpoints", "what a checkpoint costs training: in place, in the background"),
    "masking": Benchmark("benchmarks.masking", "one training step under a mask, against dense and torch's own pruning"),
    "recipe": Benchmark("benchmarks.recipe", "fine-tuning: the authors' recipe, transformers' Trainer and lnsub"),
    "statistics": Benchmark(
        "benchmarks.statistics", "how often intervals hold the truth and tests reject it, in simulated studies"
    ),
    "transfers": Benchmark(
        "benchmarks.transfers",
        "how often a mixed model's intervals hold the truth, and heat maps mark what is not there",
    ),
    "quality": Benchmark("benchmarks.quality", "the metric that those ways reach on as many examples"),
}
"""By name, as in ``python -m benchmarks NAME`` and in the markers in docs/performance.md or docs/statistics.md."""


def run_one(name: str, quick: bool, repeats: int) -> dict[str, Any]:
    """Runs one benchmark in this process.

    Args:
        name: a key of the registry.
        quick: toy sizes.
        repeats: turns of each case.

    Returns:
        Its rows, and the conditions under which they were measured, in plain JSON types.
    """
    machine = describe()
    start = time.perf_counter()
    rows = [row.to_json() for row in BENCHMARKS[name].load()(quick, repeats)]
    if quick:
        rows = [row | {"claims": []} for row in rows]
    seconds = round(time.perf_counter() - start, 1)
    return {"quick": quick, "repeats": repeats, "seconds": seconds, "machine": machine, "rows": rows}
