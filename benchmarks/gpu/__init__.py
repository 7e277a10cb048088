"""mBERT on XNLI on one GPU: the time of a step in each variant, its bounds, and the resulting time of a whole run.

The model has the exact shape of bert-base-multilingual-cased and random weights; the pairs have XNLI's lengths and
random tokens. It takes less than eight minutes, including compilation. A failed part is reported and the others
continue; rows are printed as they are measured. Without a GPU nothing is measured, except in quick mode, which runs all
parts at toy sizes on the CPU.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from benchmarks.gpu.device import Device
from benchmarks.gpu.fits import fit
from benchmarks.gpu.pieces import ceilings, of_a_step
from benchmarks.gpu.rounds import between_rounds, checkpointing, validating
from benchmarks.gpu.steps import Found, authors, lnsub
from benchmarks.gpu.summary import summary
from benchmarks.gpu.workload import Settings, shape
from benchmarks.harness import Row
from benchmarks.tables import as_line
from benchmarks.worker import PartFailed, Worker

MINUTES = 7.5
_PATIENCE = 600.0
"""Time limit of each part in quick mode in seconds, generous for busy machines."""
_LEAST = 5.0
"""Seconds in which no part is worth starting."""
COMPILING = 300.0
"""Time limit of a part that compiles: on the null GPU, one busy core of 2021 compiles 12 layers in 130 s."""
CAPTURED = "captured, padded"
BOTH = "captured and compiled, padded"
GRAPHS = "CUDA graphs of torch.compile, padded"
CONSOLE = Console(soft_wrap=True, markup=False, highlight=False)
Tell = Callable[[Row], object]


def say(row: Row) -> None:
    """Prints a line at once."""
    CONSOLE.print(as_line(row.to_json()))


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        name: its name in error messages and facts.
        function: a function of the settings and ``args``.
        args: picklable.
        seconds: its time limit.
    """

    name: str
    function: Callable[..., Found]
    args: tuple[Any, ...] = ()
    seconds: float = 60.0


def parts(settings: Settings) -> Iterator[Part]:
    """The parts, the most important first."""
    few, many = settings.rows
    yield Part("ceilings", ceilings)
    yield Part("authors", authors, (False,))
    yield Part("step: eager, padded", lnsub, ("eager, padded", few))
    yield Part(f"step: {CAPTURED}", lnsub, (CAPTURED, few))
    yield Part(f"fit: {CAPTURED}", fit, (CAPTURED,))
    yield Part("between rounds", between_rounds)
    yield Part("validating", validating)
    yield Part("checkpointing", checkpointing)
    yield Part(f"step: {BOTH}", lnsub, (BOTH, few), COMPILING)
    yield Part(f"fit: {BOTH}", fit, (BOTH,), COMPILING)
    yield Part(f"many: {BOTH}", lnsub, (BOTH, many), COMPILING)
    yield Part("pieces", of_a_step, ("eager, padded",))
    yield Part("many: eager, packed", lnsub, ("eager, packed", many))
    yield Part("fit: eager, padded", fit, ("eager, padded",))
    yield Part("fit: eager, packed", fit, ("eager, packed",))
    yield Part("step: eager, packed", lnsub, ("eager, packed", few))
    yield Part(f"step: {GRAPHS}", lnsub, (GRAPHS, few), COMPILING)
    yield Part(f"fit: {GRAPHS}", fit, (GRAPHS,), COMPILING)
    yield Part("authors, TF32", authors, (True,))
    yield Part("many: eager, padded", lnsub, ("eager, padded", many))
    if settings.device.gpu:  # lnsub refuses it on the CPU
        yield Part("many: compiled, packed", lnsub, ("compiled, packed", many), COMPILING)
        yield Part("step: compiled, packed", lnsub, ("compiled, packed", few), COMPILING)
    yield Part("step: compiled, padded", lnsub, ("compiled, padded", few), COMPILING)


def measure(
    device: Device, quick: bool, repeats: int, minutes: float = MINUTES, tell: Tell = say, cudnn: bool = False
) -> list[Row]:
    """Runs all parts within the time limit.

    Args:
        device: where.
        quick: toy sizes.
        repeats: timed passes over the batches in each variant.
        minutes: time limit for all parts together, except in quick mode.
        tell: called with each row as it is measured.
        cudnn: let attention take cuDNN's kernels, which lnsub does not.

    Returns:
        All rows: those of the parts, and then those derived from them.
    """
    end = time.monotonic() + 60 * minutes
    rows: list[Row] = []
    facts: dict[str, dict[str, float]] = {}

    def add(found: Sequence[Row]) -> None:
        for row in found:
            rows.append(replace(row, claims=()) if quick else row)
            tell(rows[-1])

    with shape(quick) as folder, Worker(__name__) as worker:
        settings = Settings(device, folder, quick, repeats, cudnn)
        not_measured = []
        for part in parts(settings):
            left = end - time.monotonic()
            if left < _LEAST and not quick:
                not_measured.append(part.name)
                continue
            try:
                found, facts[part.name] = worker.call(
                    _run, part, settings, seconds=_PATIENCE if quick else min(part.seconds, left)
                )
            except PartFailed as failure:
                if end - time.monotonic() < _LEAST and not quick:
                    not_measured.append(part.name)
                    continue
                found = [Row(f"{part.name}: FAILED: {failure}")]
            add(found)
        add(summary(settings, facts))
        if not_measured:
            add([Row(f"not measured, the time was up: {'; '.join(not_measured)}")])
    return rows


def run(quick: bool, repeats: int) -> list[Row]:
    """Measures on the GPU; in quick mode without a GPU, on the CPU. See the module's docstring."""
    import torch

    if torch.cuda.is_available():
        return measure(Device("cuda"), quick, repeats)
    if quick:
        return measure(Device("cpu"), quick, 1)
    return [Row("not run: torch sees no GPU (CUDA) here")]


def _run(part: Part, settings: Settings) -> Found:
    import torch

    torch.backends.cuda.enable_cudnn_sdp(settings.cudnn)  # lnsub switches it off when it is imported
    try:
        return part.function(settings, *part.args)
    finally:
        settings.device.free()
