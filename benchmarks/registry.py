"""The benchmarks: one line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from benchmarks.harness import Row


@dataclass(frozen=True)
class Benchmark:
    """A module with ``run(quick: bool, repeats: int) -> list[Row]``, and what it shows."""

    module: str
    shows: str

    def load(self) -> Callable[[bool, int], list[Row]]:
        """Imports the module, which may import torch and more, and returns its ``run``."""
        return cast(Callable[[bool, int], list[Row]], import_module(self.module).run)


BENCHMARKS: Mapping[str, Benchmark] = {
    "compiling": Benchmark("benchmarks.compiling", "a step through torch.compile, and how often rounds compile"),
    "gpu": Benchmark("benchmarks.gpu", "mBERT on XNLI on one GPU: steps, what bounds them, and whole runs"),
    "packing": Benchmark("benchmarks.packing", "batches without padding, against padded ones"),
    "masking": Benchmark("benchmarks.masking", "one training step under a mask, against dense and torch's own pruning"),
    "recipe": Benchmark("benchmarks.recipe", "fine-tuning: the authors' recipe, transformers' Trainer and lnsub"),
}
"""By the name that ``python -m benchmarks NAME`` and the places in ``docs/performance.md`` use."""
