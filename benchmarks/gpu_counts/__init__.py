"""What a training step asks of a GPU and of its host, counted on a GPU that does nothing: see :mod:`.launch`.

The counts are exact. The host's milliseconds are those of Python, torch and Lightning on this machine's processor; what
the driver of a real GPU takes for each launch, some two microseconds, comes on top. How long a GPU takes for its work
is not to be had so.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_counts.launch import run
from benchmarks.harness import Row

CHILD = Path(__file__).parent / "child.py"
HERE = Path(__file__).parents[2]

WIDTH = 64
LAYERS = 12
SECONDS = 900.0
"""Time limit of a variant; compiling 12 layers takes two minutes on one busy core."""


@dataclass(frozen=True)
class Variant:
    """A way to run a step.

    Attributes:
        name: in the table.
        module: arguments of ``SubnetModule``.
        compiled: whether it takes a minute or more to compile.
    """

    name: str
    module: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False


EAGER = Variant("eager")
COMPILED = Variant("compile: default", {"compile": "default"}, compiled=True)
GRAPHS = Variant("compile: reduce-overhead", {"compile": "reduce-overhead"}, compiled=True)
CAPTURED = Variant("step: captured", {"step": "captured"})
BOTH = Variant("step: captured, compile: default", {"step": "captured", "compile": "default"}, compiled=True)
VARIANTS = (EAGER, COMPILED, GRAPHS, CAPTURED, BOTH)


@dataclass(frozen=True)
class Checkout:
    """A state of the project.

    Attributes:
        name: in the table.
        path: its root.
    """

    name: str
    path: Path

    def knows(self, variant: Variant) -> bool:
        """Whether its module has all arguments that a variant has."""
        source = (self.path / "lnsub" / "training" / "module.py").read_text(encoding="utf-8")
        return all(f"\n        {name}: " in source for name in variant.module)


def count(python: str, kind: str, checkout: Checkout, **settings: Any) -> dict[str, Any]:
    """Runs a function of child.py.

    Args:
        python: an interpreter with a CUDA build of torch.
        kind: the function.
        checkout: whose lnsub it measures.
        settings: the function's arguments.

    Returns:
        Numbers a step, or a batch, by name.

    Raises:
        RuntimeError: it fails, or the null GPU cannot be used here.
    """
    # cuDNN does not start on the null GPU; checkouts before its attention was switched off would fail there.
    old = {} if checkout.path == HERE else {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}
    return dict(run(python, [str(CHILD), kind, json.dumps(settings)], checkout.path, old, SECONDS))


def steps(python: str, checkouts: Sequence[Checkout], variants: Sequence[Variant], layers: int) -> Iterator[Row]:
    """A row for each variant of each checkout: a step of a whole fit by Lightning's trainer, of 32 rows.

    Args:
        python: an interpreter with a CUDA build of torch.
        checkouts: those to compare; of each, only variants that it knows.
        variants: ways to run a step.
        layers: of the model, which otherwise has mBERT's shape.
    """
    for variant in variants:
        for checkout in checkouts:
            if checkout.knows(variant):
                found = count(python, "fit", checkout, layers=layers, width=WIDTH, module=variant.module)
                case = f"{variant.name}, {checkout.name}" if len(checkouts) > 1 else variant.name
                yield Row(case, values=step_values(found))


def step_values(found: dict[str, Any]) -> dict[str, float | int]:
    """The columns of the table of steps, of what child.py has counted."""
    whole = {
        "kernels launched": "kernels",
        "products launched": "products",
        "graphs launched": "graphs",
        "operations in them": "in graphs",
        "copies to the device": "to device",
        "copies and fills on it": "on device",
        "copies to the host": "to host",
        "waits": "waits",
    }
    return {column: round(found[name], 2) for column, name in whole.items()} | {"host ms": round(found["host ms"], 2)}


def pieces(python: str, checkouts: Sequence[Checkout], layers: int) -> Iterator[Row]:
    """A row for each part of an eager step alone, without Lightning: its launches, and the host's milliseconds."""
    found = [count(python, "bare", checkout, layers=layers, width=WIDTH, module={})["pieces"] for checkout in checkouts]
    for piece in found[0]:
        values: dict[str, float | int] = {}
        for checkout, of_it in zip(checkouts, found, strict=True):
            which = f", {checkout.name}" if len(checkouts) > 1 else ""
            values[f"launches{which}"] = sum(int(n) for name, n in of_it[piece].items() if name != "host ms")
            values[f"host ms{which}"] = round(of_it[piece]["host ms"], 2)
        yield Row(piece, values=values)


def loading(python: str, checkouts: Sequence[Checkout]) -> Iterator[Row]:
    """A row for each way to load batches: main-process milliseconds a batch of 32 pairs with XNLI's lengths."""
    for checkout in checkouts:
        ahead = (checkout.path / "lnsub" / "data" / "prefetch.py").exists()
        for workers in (0, 2):
            found = count(python, "loader", checkout, num_workers=workers)
            name = f"{workers} loader processes" if workers else f"in the process, {'by a thread' * ahead or 'in turn'}"
            case = f"{name}, {checkout.name}" if len(checkouts) > 1 else name
            columns = {"ms of the training thread": "thread ms", "ms of its process": "process ms"}
            yield Row(case, values={column: round(found[key], 2) for column, key in columns.items()})
