"""Captured steps: the same as eager ones, and eager where a step cannot be captured."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lnsub.runs.folder import RunFolder
from lnsub.tasks.xnli import XNLI
from lnsub.training import captured
from lnsub.training.captured import Replay
from lnsub.training.checkpoint_files import read_checkpoint
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.logging_setup import warn_once
from lnsub.training.module import SubnetModule
from tests.support.data_makers import WORDS
from tests.support.models import save_checkpoint

RATE = 2.0**-9  # times k/16, as the schedule over 16 steps has it, it is the same number in float32
ROWS, BATCH = 64, 8  # 8 steps an epoch


class Rerun:
    """A stand-in for CUDA graphs on the CPU: what is recorded is run again, on the tensors that it was recorded on."""

    def __init__(self) -> None:
        self.eager = self.recorded = self.replayed = 0

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        self.eager += 1
        return work()

    def record(self, work: Callable[[], Tensor]) -> Replay:
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return work()

        return replay


class Captured(SubnetModule):
    """A module whose steps can be captured on a CPU."""

    recorders: list[Rerun]

    def why_not_captured(self) -> str | None:
        why = super().why_not_captured()
        return None if why == "there is no CUDA device" else why

    def make_recorder(self) -> Rerun:
        self.recorders = [*getattr(self, "recorders", []), Rerun()]
        return self.recorders[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A base model with dropout, and rows of differing lengths."""
    folder = tmp_path_factory.mktemp("captured")
    for split, rows in (("train", ROWS), ("validation", 12)):
        path = folder / "xnli" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for i in range(rows):
            words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 7)]
            lines.append(json.dumps({"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}) + "\n")
        path.write_text("".join(lines))
    return str(save_checkpoint(folder / "base", WORDS, dropout=0.2)), str(folder / "xnli")


def run(
    world: tuple[str, str],
    folder: Path,
    step: Any,
    *,
    kind: type[SubnetModule] = Captured,
    callbacks: tuple[Callback, ...] = (),
    rounds: bool = True,
    every: int | None = None,
    every_log: int = 1,
    model: dict[str, Any] | None = None,
    **trainer: Any,
) -> SubnetModule:
    """An IMP run of three rounds, or one fit, of two epochs each, with validations within them."""
    data = XNLI(
        language="en", tokenizer=world[0], dataset=world[1], batch_size=BATCH, pad_to_multiple_of=4, max_length=32
    )
    module = kind(data.task, world[0], learning_rate=RATE, step=step, **model or {})
    imp = [IMPCallback(sparsities=[0.5, 0.75], keep_checkpoint=True)] if rounds else []
    settings = {"accelerator": "cpu", "gradient_clip_val": 0.5, "max_epochs": 2, "val_check_interval": 4, **trainer}
    fit(
        Trainer(
            logger=RunCSVLogger(RunFolder(folder)),
            log_every_n_steps=every_log,
            callbacks=[*imp, *callbacks],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            **settings,
        ),
        module,
        data,
        checkpoint_every_n_steps=every,
    )
    return module


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    warn_once.cache_clear()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_captured_run_equals_an_eager_one(precision, world, tmp_path):
    eager = run(world, tmp_path / "eager", "eager", precision=precision)
    module = run(world, tmp_path / "captured", "captured", precision=precision)
    assert same(module.state_dict(), eager.state_dict())
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("eager", "captured")]
    assert metrics[0] == metrics[1]
    assert metrics[0].count("\n") > 3 * 16
    assert isinstance(module, Captured)
    assert len(module.recorders) == 3  # each round has graphs of its own
    for recorder in module.recorders:
        assert recorder.eager + recorder.replayed == 16
        assert 0 < recorder.recorded <= recorder.eager < recorder.replayed


class Monitor(Callback):
    """Notes the training loss where callbacks that monitor it look at it."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["train_loss"]))

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["train_loss"]))


def test_a_loss_that_is_not_logged_is_there_for_those_that_monitor_it(world, tmp_path):
    seen = {}
    for step in ("eager", "captured"):
        monitor = Monitor()
        limits = {"max_steps": 14, "max_epochs": -1, "val_check_interval": 3}
        run(world, tmp_path / step, step, callbacks=(monitor,), rounds=False, every_log=5, **limits)
        seen[step] = monitor.seen, (tmp_path / step / "metrics.csv").read_text()
    assert seen["captured"] == seen["eager"]
    assert len(seen["eager"][0]) == 4 + 2


class Stop(Exception):  # noqa: N818 (not an error)
    """The end of the process."""


class StopAt(Callback):
    """Ends a run after a step, once that step's checkpoint is written."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 21:
            raise Stop


@pytest.mark.parametrize(("first", "then"), [("eager", "captured"), ("captured", "eager"), ("captured", "captured")])
def test_either_kind_of_step_resumes_the_other(first, then, world, tmp_path):
    whole = run(world, tmp_path / "whole", "eager")
    with pytest.raises(Stop):
        run(world, tmp_path / "stopped", first, callbacks=(StopAt(),), every=1)
    held = read_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.ckpt", thoroughly=False)
    groups = held["optimizer_states"][0]["param_groups"]
    assert [(type(group["lr"]), group["capturable"]) for group in groups] == [(float, False)] * len(groups)
    module = run(world, tmp_path / "stopped", then)
    assert same(module.state_dict(), whole.state_dict())


def test_shapes_beyond_the_limit_stay_eager(world, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(captured, "MOST_GRAPHS", 1)
    module = run(world, tmp_path / "captured", "captured", rounds=False)
    assert isinstance(module, Captured)
    assert module.recorders[0].recorded == 1
    assert caplog.text.count("Only the first 1 shapes") == 1
    assert same(module.state_dict(), run(world, tmp_path / "eager", "eager", rounds=False).state_dict())


class Looking(Callback):
    """Looks at gradients, as Lightning lets callbacks do."""

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Would not be called in a replay."""


@pytest.mark.parametrize(
    ("why", "settings"),
    [
        ("accumulate_grad_batches", {"accumulate_grad_batches": 2}),
        ("gradient_clip_algorithm", {"gradient_clip_algorithm": "value"}),
        ("adamw", {"model": {"optimizer": "adafactor"}}),
        ("packed", {"model": {"attention": "packed"}}),
        ("detect_anomaly", {"detect_anomaly": True}),
        ("Looking", {"callbacks": (Looking(),)}),
        ("no CUDA device", {"kind": SubnetModule}),
    ],
)
def test_where_it_cannot_be_captured_a_step_is_eager_and_says_why(why, settings, world, tmp_path, caplog):
    module = run(world, tmp_path, "captured", rounds=False, max_epochs=1, **settings)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [why in message for message in said if message.startswith("model.step: captured has no effect")] == [True]
    assert not hasattr(module, "recorders")


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_two_kinds_of_cuda_graphs_are_not_used_together(mode, world):
    data = XNLI(language="en", tokenizer=world[0], dataset=world[1], max_length=32)
    module = Captured(data.task, world[0], step="captured", compile=mode)
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.trainer.strategy.optimizers = [torch.optim.AdamW(module.parameters())]
    assert "use default" in (module.why_not_captured() or "")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("compile", [None, "default"])
def test_captured_steps_equal_eager_ones_on_a_gpu(compile, precision, world, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    settings: dict[str, Any] = {
        "kind": SubnetModule,
        "precision": precision,
        "accelerator": "gpu",
        "devices": 1,
        "model": {"compile": compile},
    }
    eager = run(world, tmp_path / "eager", "eager", **settings)
    module = run(world, tmp_path / "captured", "captured", **settings)
    for name, tensor in eager.state_dict().items():
        # The learning rate is in float32 here; what a GPU adds up, it adds in no set order.
        torch.testing.assert_close(module.state_dict()[name].float(), tensor.float(), rtol=1e-3, atol=1e-4)
