"""The training step in its variants: seconds, examples, the share of the matrix peak, memory, waits."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.utils import prune
from transformers import BertConfig

from benchmarks.gpu.workload import Settings, make_batches, products, xnli_lengths
from benchmarks.harness import MB, Row, Timing
from lnsub.models.compiling import Mode, compile_for_training
from lnsub.models.prunable import prunable
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from lnsub.training.captured import CapturedStep, CudaRecorder, Replay, StepName
from lnsub.training.module import SubnetModule

CLIP = 1.0
SPARSITY = 0.5
RATE = 5e-5

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Variant:
    """One way to run lnsub's step, in bf16 with a fused AdamW.

    Attributes:
        attention: ``model.attention``.
        compile: ``model.compile``.
        multiple: ``data.init_args.pad_to_multiple_of``.
        step: ``model.step``.
    """

    attention: Literal["sdpa", "packed"] = "sdpa"
    compile: Mode | None = None
    multiple: int = 16
    step: StepName = "eager"


VARIANTS: Mapping[str, Variant] = {
    "eager, padded": Variant(),
    "eager, packed": Variant("packed"),
    "captured, padded": Variant(step="captured"),
    "captured and compiled, padded": Variant(compile="default", step="captured"),
    "CUDA graphs of torch.compile, padded": Variant(compile="reduce-overhead"),
    "compiled, padded": Variant(compile="default"),
    "compiled, packed": Variant("packed", "default"),
}
"""By the name that the table uses."""

Found = tuple[list[Row], dict[str, float]]
"""Rows of the table, and numbers that other parts need."""


def authors(settings: Settings, tf32: bool) -> Found:
    """The authors' recipe: float32, every row padded to 128, ``torch.nn.utils.prune``, torch's default AdamW.

    Args:
        settings: the benchmark's settings.
        tf32: compute float32 products in TF32 on tensor cores, which torch does not by default.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        model, _ = settings.task.build(settings.folder, init="random")
        model = model.to(settings.device.torch).train()
        weights = {name: entry.parameter.detach() for name, entry in prunable(model).items()}
        mask = select(weights, Mask.dense({n: w.shape for n, w in weights.items()}, settings.device.torch), SPARSITY)
        for name, entry in prunable(model).items():
            prune.custom_from_mask(entry.module, "weight", mask[name].float())
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

        def step(batch: Batch) -> None:
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids", "labels")}
            optimizer.zero_grad()
            model(**inputs).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()

        name = f"authors' recipe, {'TF32' if tf32 else 'fp32'}"
        return _measure(settings, name, step, settings.rows[0], settings.longest)
    finally:
        torch.set_float32_matmul_precision("highest")


def lnsub(settings: Settings, name: str, rows: int) -> Found:
    """One of lnsub's variants.

    Args:
        settings: where and how large.
        name: key of :data:`VARIANTS`.
        rows: examples in a batch.
    """
    step = Step(settings, VARIANTS[name])
    return _measure(settings, f"{name}, {rows} examples", step, rows, VARIANTS[name].multiple)


class Step:
    """lnsub's step, its parts in the order in which Lightning calls them.

    Args:
        settings: the benchmark's settings.
        variant: the variant of the step.
    """

    def __init__(self, settings: Settings, variant: Variant) -> None:
        self.module = make_module(settings, variant)
        self.module.to(settings.device.torch).train()
        decayed = [p for p in self.module.parameters() if p.ndim > 1]
        plain = [p for p in self.module.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.0}, {"params": plain, "weight_decay": 0.0}], lr=RATE, fused=True
        )
        # Like Lightning's bf16-mixed: with the cache on, torch would compile again for the fits.
        self._autocast = partial(torch.autocast, settings.device.name, torch.bfloat16, cache_enabled=False)
        self._captured = self._capture(settings) if variant.step == "captured" else None

    def _capture(self, settings: Settings) -> CapturedStep:
        """The captured step, with the trainer that it takes precision and clipping from."""
        gpu = settings.device.gpu
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            precision="bf16-mixed",
            gradient_clip_val=CLIP,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        self.module.trainer = trainer
        trainer.strategy.optimizers = [self.optimizer]
        return CapturedStep(self.module, CudaRecorder() if gpu else _Repeating())

    def __call__(self, batch: Batch) -> None:
        """Makes one step on a batch that is on the device."""
        if self._captured is not None:
            self._captured(batch)
            return
        loss = self.forward(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.module.subnet.mask_gradients()
        self.clip()
        self.optimizer.step()

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        with self._autocast():
            return self.module.task.loss(self.module(batch), batch["labels"])

    def clip(self) -> None:
        """Clips the gradients, as :meth:`SubnetModule.configure_gradient_clipping` does."""
        nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)


class _Repeating:
    """What stands for CUDA graphs on a CPU, in quick mode: work is repeated, not replayed."""

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Runs it."""
        return work()

    def record(self, work: Callable[[], Tensor]) -> Replay:
        """Runs it each time."""
        return work


def make_module(settings: Settings, variant: Variant) -> SubnetModule:
    """A module with random weights, under the magnitude mask of :data:`SPARSITY`, on the CPU."""
    module = SubnetModule(
        settings.task,
        settings.folder,
        init="random",
        attention=variant.attention,
        compile=variant.compile,
        step=variant.step,
    )
    if settings.quick and variant.compile is not None:
        compile_for_training(module.model, "default", "eager")  # a real compiler takes minutes even for a toy
    weights = {name: weight.detach() for name, weight in module.subnet.weights.items()}
    module.subnet.set_mask(select(weights, module.subnet.mask, SPARSITY))
    return module


def _measure(settings: Settings, name: str, step: Callable[[Batch], None], rows: int, multiple: int) -> Found:
    """Times whole passes over one window of batches, transfers to the device included."""
    device = settings.device
    batches = make_batches(settings, rows, multiple)
    computed = sum(batch["input_ids"].numel() for batch in batches) / len(batches)
    if multiple == settings.longest:
        batches = batches[:30]  # all of one shape

    def one(batch: Batch) -> None:
        step({key: tensor.to(device.torch, non_blocking=True) for key, tensor in batch.items()})

    def run() -> float:
        device.wait()
        start = time.perf_counter()
        for batch in batches:
            one(batch)
        device.wait()
        return time.perf_counter() - start

    device.start_of_peak()
    first = run()
    run()  # CUDA graphs are recorded when a shape occurs for the second time
    passes = [run() for _ in range(settings.repeats)]
    timing = Timing(tuple(seconds / len(batches) for seconds in passes))
    waits = device.waits(partial(one, batches[-1]))
    lengths = xnli_lengths(settings, rows)
    tokens = float(lengths.sum()) / settings.batches
    flops = products(BertConfig.from_pretrained(settings.folder), lengths) / settings.batches
    values = {
        "examples/s": rows / timing.median,
        "tokens/s": tokens / timing.median,
        "ms of host time a step": 1e3 * _launching(device.wait, one, batches),
        "TFLOP/s": flops / timing.median / 1e12,
        "MB at the peak": device.peak() / MB,
        "% padding in a padded batch": 100 * (1 - tokens / computed),
        "waits for the device a step": waits,
        "s that the first pass took longer": first - float(np.median(passes)),
    }
    return [Row(name, timing, values=values)], {"examples/s": rows / timing.median, "flop/s": flops / timing.median}


def _launching(wait: Callable[[], None], one: Callable[[Batch], None], batches: list[Batch]) -> float:
    """Host seconds to launch one step, without waiting for the device: the median of a few."""
    seconds = []
    for batch in batches[:10]:
        wait()
        start = time.perf_counter()
        one(batch)
        seconds.append(time.perf_counter() - start)
    wait()
    return float(np.median(seconds))
