"""What one variant asks of the device, and of the host: run by launch.py on the null GPU, with any checkout's lnsub.

It uses what checkouts have in common, and nothing of this project's other files, so that it can measure older ones.

    child.py fit '{"layers": 12, "width": 64, "module": {...}, "multiple": 16}'
    child.py loader '{"num_workers": 2}'
"""

import ctypes
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from transformers import BertConfig

from lnsub.pruning.masks import Mask
from lnsub.tasks.xnli import XNLITask
from lnsub.training.module import SubnetModule

NAMES = (
    *("kernels", "products", "graphs", "in graphs", "to device", "from pageable", "to host", "on device", "waits"),
    "broken captures",
)
"""What the null GPU counts, in the order of ``enum count`` in null.h."""

ROWS, CLIP, RATE = 32, 1.0, 5e-5
FIRST, STEPS = 6, 12
"""Steps before those that are counted: they compile, capture and make the optimizer's state; and those counted."""

_library = ctypes.CDLL(os.environ["LD_PRELOAD"])
_library.null_gpu_count.restype = ctypes.c_long
_library.null_gpu_bytes.restype = ctypes.c_long


def counts() -> dict[str, int]:
    """All counts since the last reset."""
    return {name: _library.null_gpu_count(i) for i, name in enumerate(NAMES)}


def batch_of(width: int, seed: int) -> dict[str, Tensor]:
    """A pinned batch of :data:`ROWS` rows, half of them shorter than ``width``, as the data module makes it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(max(2, width - 8), width + 1, ROWS)
    lengths[::2] = width
    mask = torch.from_numpy(np.arange(width) < lengths[:, None]).long()
    batch = {
        "input_ids": torch.from_numpy(rng.integers(5, 290, (ROWS, width))) * mask,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(mask),
        "labels": torch.from_numpy(rng.integers(0, 3, ROWS)),
        "index": torch.arange(ROWS),
        "slots": mask.flatten().nonzero().squeeze(1),
    }
    return {name: tensor.pin_memory() for name, tensor in batch.items()}


def make_module(layers: int, settings: dict[str, Any]) -> SubnetModule:
    """A module of mBERT's shape, or of fewer layers, with random weights, half of them pruned."""
    folder = tempfile.mkdtemp()
    BertConfig(vocab_size=119_547, num_hidden_layers=layers).save_pretrained(folder)
    module = SubnetModule(XNLITask(folder), folder, init="random", **settings)
    random = torch.Generator().manual_seed(0)
    shapes = module.subnet.shapes
    module.subnet.set_mask(Mask({name: torch.rand(shape, generator=random) > 0.5 for name, shape in shapes.items()}))
    return module


class Ready:
    """As many batches of one width as are asked for, from pinned memory, which costs a step nothing."""

    def __init__(self, width: int, number: int) -> None:
        self._made = [batch_of(width, seed) for seed in range(4)]
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self._made[i % len(self._made)] for i in range(self._number))


class Batches(LightningDataModule):
    """Such batches, as Lightning wants them."""

    def __init__(self, width: int, number: int) -> None:
        super().__init__()
        self._ready = Ready(width, number)

    def train_dataloader(self) -> Ready:
        """The batches."""
        return self._ready


class Watch(Callback):
    """Counts from the start of one step to the start of another, and takes the host's time of each between."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.counted: dict[str, int] = {}
        self._before = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts, goes on or ends."""
        now = time.process_time()
        if FIRST < batch_idx <= FIRST + STEPS:
            self.seconds.append(now - self._before)
        if batch_idx == FIRST:
            _library.null_gpu_reset()
        if batch_idx == FIRST + STEPS:
            self.counted = counts()
        self._before = time.process_time()


def fit(layers: int, width: int, module: dict[str, Any]) -> dict[str, Any]:
    """Counts and times steps of a whole fit by Lightning's trainer."""
    watch, made = Watch(), make_module(layers, module)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="gpu",
            devices=1,
            max_epochs=1,
            precision="bf16-mixed",
            gradient_clip_val=CLIP,
            limit_val_batches=0,
            log_every_n_steps=1000,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            logger=False,
            callbacks=[watch],
        )
        trainer.fit(made, datamodule=Batches(width, FIRST + STEPS + 1))
    return _per_step(watch.counted, watch.seconds) | {"first s": time.perf_counter() - started}


def bare(layers: int, width: int, module: dict[str, Any]) -> dict[str, Any]:
    """Counts and times the parts of a step alone, in the order in which Lightning calls them."""
    made = make_module(layers, module).to("cuda").train()
    parameters = list(made.parameters())
    groups = [[p for p in parameters if (p.ndim > 1) == matrices] for matrices in (True, False)]
    optimizer = torch.optim.AdamW([{"params": g, "weight_decay": 0.0} for g in groups], lr=RATE, fused=True)
    ready = [batch_of(width, seed) for seed in range(4)]
    batch: dict[str, Tensor] = {}
    loss = torch.zeros(())

    def move(step: int) -> None:
        batch.update({k: v.to("cuda", non_blocking=True) for k, v in ready[step % len(ready)].items()})

    def forward() -> None:
        nonlocal loss
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = made.task.loss(made(batch), batch["labels"])

    pieces: dict[str, Callable[[], object]] = {
        "forward": forward,
        "zero_grad": optimizer.zero_grad,
        "backward": lambda: loss.backward(),
        "mask": made.subnet.mask_gradients,
        "clip": partial(nn.utils.clip_grad_norm_, parameters, CLIP),
        "optimizer": optimizer.step,
    }
    started, seconds = time.perf_counter(), []
    of_pieces: dict[str, dict[str, float]] = {name: {} for name in pieces}
    for step in range(FIRST + STEPS):
        if step == FIRST:
            _library.null_gpu_reset()
        start = time.process_time()
        move(step)
        for name, piece in pieces.items():
            before, began = counts(), time.process_time()
            piece()
            taken, after = 1e3 * (time.process_time() - began), counts()
            least = min(taken, of_pieces[name].get("host ms", taken))
            of_pieces[name] = {n: after[n] - before[n] for n in NAMES if after[n] != before[n]} | {"host ms": least}
        if step >= FIRST:
            seconds.append(time.process_time() - start)
    return _per_step(counts(), seconds) | {"pieces": of_pieces, "first s": time.perf_counter() - started}


def _per_step(counted: dict[str, int], seconds: list[float]) -> dict[str, Any]:
    # The least: whatever else runs on the machine only adds to it.
    return {name: number / STEPS for name, number in counted.items()} | {"host ms": 1e3 * min(seconds)}


def loader(num_workers: int, batches: int = 200) -> dict[str, Any]:
    """Milliseconds of the training thread, and of its process, for each batch of the data module's loader."""
    import datasets

    from lnsub.data.batching import BatchedRows, Collator, LengthGroupedBatches

    try:
        from lnsub.data.loaders import ResumableLoader
    except ImportError:
        from lnsub.data.batching import ResumableLoader  # type: ignore[attr-defined, no-redef]
    lengths = np.clip(np.random.default_rng(0).lognormal(3.962, 0.470, batches * ROWS), 5, 128).astype(np.int64)
    rng = np.random.default_rng(1)
    columns = {
        "input_ids": [rng.integers(5, 290, length) for length in lengths],
        "token_type_ids": [np.zeros(length, dtype=np.int8) for length in lengths],
        "labels": rng.integers(0, 3, len(lengths)),
        "index": np.arange(len(lengths)),
        "length": lengths,
    }
    torch.zeros(1, device="cuda")
    made = ResumableLoader(
        dataset=BatchedRows(datasets.Dataset.from_dict(columns), Collator(pad_id=0, multiple=16)),
        sampler=LengthGroupedBatches(lengths, batch_size=ROWS, num_replicas=1, rank=0),
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=True,
    )
    for _ in made:
        pass
    best: dict[str, float] = {}
    for _ in range(3):
        clocks: tuple[Callable[[], float], ...] = (time.thread_time, time.process_time)
        before = [clock() for clock in clocks]
        for _ in _at_the_pace_of_steps(made):
            pass
        taken = [1e3 * (clock() - start) / batches for clock, start in zip(clocks, before, strict=True)]
        for name, value in zip(("thread ms", "process ms"), taken, strict=True):
            best[name] = min(value, best.get(name, value))
    return best


def _at_the_pace_of_steps(batches: Any) -> Iterator[Any]:
    """Batches as a GPU asks for them: while it works on one, the host has time to make others."""
    for batch in batches:
        yield batch
        time.sleep(0.003)


def main() -> None:
    """Prints what the command line asks for as one line of JSON."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    kind, settings = sys.argv[1], json.loads(sys.argv[2])
    kinds: dict[str, Callable[..., dict[str, Any]]] = {"fit": fit, "bare": bare, "loader": loader}
    result = kinds[kind](**settings)
    sys.stdout.write(f"{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
