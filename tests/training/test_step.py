"""A training step: nothing in it waits for the device, prints, or sends buffers to other processes."""

import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoConfig

from lnsub.data.batching import BatchedRows, BatchRows
from lnsub.pruning.masks import Mask
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.training.module import SubnetModule
from lnsub.training.progress import RoundProgress
from tests.support.data_makers import WORDS, write_rows
from tests.support.waits import Waits

FIRST, LAST = 3, 7  # steps that are watched; optimizer state and the like are made before


class Watch(Callback):
    """Does something at the beginning of a step and at the end of a later one, and counts the steps between."""

    def __init__(self, enter: Any, leave: Any) -> None:
        self.enter, self.leave = enter, leave
        self.steps = 0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == FIRST:
            self.enter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.steps += FIRST < trainer.global_step <= LAST
        if trainer.global_step == LAST:
            self.leave()


def data_of(task: str, base: str, folder: Path, **settings: Any) -> LanguageDataModule:
    """Rows of differing lengths, so that batches have padding."""
    texts = [" ".join(WORDS[: 3 + i % 9]) for i in range(40)]
    made: dict[str, Any] = {
        "xnli": {"premise": texts, "hypothesis": texts[::-1], "label": [i % 3 for i in range(40)]},
        "wikiann": {
            "tokens": [text.split() for text in texts],
            "ner_tags": [[i % 7 for i, _ in enumerate(text.split())] for text in texts],
        },
        "mlm": {"text": [" ".join([t] * 8) for t in texts]},
    }
    kind: Any = {"xnli": XNLI, "wikiann": WikiANN, "mlm": WikipediaMLM}[task]
    for split in ("train", "validation"):
        write_rows(folder / "data" / "en" / f"{split}.jsonl", made[task])
    return kind(language="en", tokenizer=base, dataset=str(folder / "data"), max_length=32, **settings)


def half_pruned(data: LanguageDataModule, base: str) -> SubnetModule:
    module = SubnetModule(data.task, base)
    random = torch.Generator().manual_seed(0)
    module.subnet.set_mask(
        Mask({name: torch.rand(shape, generator=random) > 0.5 for name, shape in module.subnet.shapes.items()})
    )
    return module


def trainer_of(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    return Trainer(
        **{"accelerator": "cpu", "max_steps": LAST + 1, "max_epochs": -1, **settings},
        callbacks=list(callbacks),
        gradient_clip_val=1.0,
        logger=CSVLogger(folder),
        log_every_n_steps=LAST + 1,  # only a step that logs reads the loss
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


@pytest.fixture(params=["xnli", "xnli mt5", "wikiann", "mlm"])
def fine_tuning(request, bert, mt5, tmp_path, cache) -> tuple[SubnetModule, LanguageDataModule]:
    task, _, kind = request.param.partition(" ")
    base = mt5 if kind else bert
    data = data_of(task, base, tmp_path, batch_size=4)
    return half_pruned(data, base), data


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_no_step_waits_for_the_device_or_prints(precision, fine_tuning, tmp_path, capfd, monkeypatch):
    watching = Waits()
    said: list[str] = []
    load = BatchedRows.__getitem__

    def load_apart(rows: BatchedRows, batch: BatchRows) -> dict[str, torch.Tensor]:
        watching.loading = True
        tensors = load(rows, batch)
        watching.loading = False
        return tensors

    monkeypatch.setattr(BatchedRows, "__getitem__", load_apart)

    def enter() -> None:
        capfd.readouterr()
        watching.__enter__()

    def leave() -> None:
        watching.__exit__(None, None, None)
        said.extend(capfd.readouterr())

    watch = Watch(enter, leave)
    display = RoundProgress(Console(file=io.StringIO(), force_terminal=True))
    trainer = trainer_of(tmp_path, display, watch, precision=precision)
    trainer.fit(fine_tuning[0], datamodule=fine_tuning[1])
    display.on_run_end(trainer, failed=False)
    assert watch.steps == LAST - FIRST
    assert watching.names.total() > 100 * watch.steps  # forward, backward and the optimizer were seen
    assert not watching.seen
    assert said == ["", ""]


def test_a_step_that_reads_its_loss_is_noticed(bert, tmp_path, cache):
    class Reading(SubnetModule):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            loss.item()
            return loss

    data = data_of("xnli", bert, tmp_path, batch_size=4)
    watching = Waits()
    watch = Watch(watching.__enter__, lambda: watching.__exit__(None, None, None))
    trainer_of(tmp_path, watch).fit(Reading(data.task, bert), datamodule=data)
    assert watching.seen["aten::_local_scalar_dense"] == LAST - FIRST


def test_what_would_wait_is_known():
    rows, chosen = torch.arange(4.0), torch.tensor([True, False, True, False])
    for work in (lambda: rows[chosen], lambda: rows.sum().item(), lambda: bool(rows.any()), lambda: chosen.nonzero()):
        with Waits() as watching:
            work()
        assert watching.seen.total() == 1
    with Waits() as watching:
        rows[torch.tensor([1, 2])] * 2
    assert not watching.seen


def test_after_the_backward_pass_a_step_is_operations_on_lists(bert, tmp_path, cache):
    """Clipping and AdamW take as many operations for four layers as for two: each is a launch or a few on a device."""
    counted: list[Counter[str]] = []

    class Tail(Callback):
        def __init__(self) -> None:
            self.counting = Waits()

        def on_before_optimizer_step(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == LAST:
                self.counting.__enter__()

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == LAST + 1:
                self.counting.__exit__(None, None, None)
                counted.append(self.counting.names)

    matrices = []
    for layers in (2, 4):
        config = AutoConfig.from_pretrained(bert, num_hidden_layers=layers)
        config.save_pretrained(tmp_path / f"{layers}")
        data = data_of("xnli", bert, tmp_path / f"rows{layers}", batch_size=4)
        module = SubnetModule(data.task, str(tmp_path / f"{layers}"), init="random")
        matrices.append(len(module.subnet.weights))
        trainer_of(tmp_path, Tail()).fit(module, datamodule=data)
    assert matrices[1] > matrices[0]
    assert counted[0]["aten::_fused_adamw_"] == 2  # matrices, and what has no weight decay
    assert counted[0] == counted[1]
    assert counted[0].total() < 30


@pytest.mark.gpu
@pytest.mark.parametrize("step", ["eager", "captured"])
def test_no_step_waits_for_a_gpu(step, fine_tuning, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    fine_tuning[0].step_name = step
    watch = Watch(lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        trainer = trainer_of(tmp_path, watch, accelerator="gpu", devices=1, precision="bf16-mixed")
        trainer.fit(*fine_tuning[:1], datamodule=fine_tuning[1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.steps == LAST - FIRST


@pytest.fixture
def group() -> Iterator[None]:
    """Takes a process group away that a trainer of one process made."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_ddp_sends_no_buffers_and_every_parameter_has_a_gradient(fine_tuning, tmp_path):
    module, data = fine_tuning
    wrapped: list[DistributedDataParallel] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            wrapped.append(trainer.strategy.model)

        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert all(parameter.grad is not None for parameter in pl_module.parameters())

    trainer_of(tmp_path, Look(), strategy="ddp", devices=1).fit(module, datamodule=data)
    assert not wrapped[0].will_sync_module_buffers()
    assert not wrapped[0].find_unused_parameters
    assert DistributedDataParallel(module.model).will_sync_module_buffers()  # what was said to DDP of the module


def test_validation_runs_in_inference_mode_on_larger_batches_of_its_own(fine_tuning, tmp_path):
    module, data = fine_tuning
    data.eval_tokens_per_batch = 400
    rows: dict[bool, list[int]] = {True: [], False: []}
    forward = module.model.forward

    def note(input_ids: torch.Tensor, **inputs: torch.Tensor) -> Any:
        assert torch.is_inference_mode_enabled() != module.model.training
        rows[module.model.training].append(len(input_ids))
        return forward(input_ids=input_ids, **inputs)

    module.model.forward = note
    trainer = trainer_of(tmp_path, max_epochs=2, max_steps=-1)
    trainer.limit_val_batches = 1.0
    trainer.fit(module, datamodule=data)
    assert max(rows[True]) == 4
    assert sum(rows[False]) == sum(rows[True])  # two epochs of as many rows
    assert max(rows[False]) >= 8


def test_what_torch_keeps_for_each_shape_of_a_batch_on_the_cpu_is_bounded():
    """oneDNN itself tells what it makes anew: in a second pass over 80 shapes, nothing, unless it keeps fewer."""
    passes = """
import sys, torch
from lnsub.cli.main import main
if "lnsub" in sys.argv:
    main(["--version"])
weight = torch.randn(64, 64).bfloat16()
for _ in range(2):
    for rows in range(2, 82):
        torch.randn(rows, 64).bfloat16() @ weight
"""

    def made(*args: str) -> int:
        bare = {name: value for name, value in os.environ.items() if name != "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
        command = [sys.executable, "-c", passes, *args]
        told = subprocess.run(command, env={**bare, "ONEDNN_VERBOSE": "2"}, capture_output=True, text=True, check=True)
        return told.stdout.count("create:cache_miss")

    without = made()
    if not without:
        pytest.skip("torch multiplies without oneDNN here")
    assert (without, made("lnsub")) == (80, 160)
