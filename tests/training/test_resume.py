"""A run that is interrupted anywhere and resumed ends like an uninterrupted one, bit for bit.

These interruptions are exceptions at chosen places; tests/soak.py kills real processes at random moments.
"""

import csv
import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision

import lnsub.training.checkpoint_files
import lnsub.training.imp
import lnsub.training.rounds
from lnsub.runs.folder import RunFolder
from lnsub.training.imp import IMPCallback
from tests.support.resuming import IMP, STEPS, Plug, Unplugged, Watch, run

LATE: dict[str, Any] = {"imp": {"rewind": "step", "rewind_step": 4}}
IN_STEPS: dict[str, Any] = {"imp": {}, "max_epochs": -1, "max_steps": 7}
BY_BATCHES: dict[str, Any] = {**IN_STEPS, "check_val_every_n_epoch": None, "val_check_interval": 3}
WHICHEVER: dict[str, Any] = {"imp": {}, "max_epochs": 1, "max_steps": 7}
HALVES: dict[str, Any] = {"imp": {}, "val_check_interval": 0.4}
SELDOM: dict[str, Any] = {"imp": {}, "check_val_every_n_epoch": 2}
PAIRS: dict[str, Any] = {"imp": {}, "accumulate_grad_batches": 2}
KEPT: dict[str, Any] = {"imp": {"rewind": "none", "rewind_lr": False, "head": "keep"}}
PLAIN: dict[str, Any] = {"imp": None}
MIXED: dict[str, Any] = {"data": {"language": "en+fr", "max_train_examples": 40, "shares": [0.7, 0.3]}}
MIXED_ROUNDS: dict[str, Any] = {"imp": {}, **MIXED}


@pytest.mark.parametrize(
    ("settings", "every", "plug", "resumed_after"),
    [
        # Before the first checkpoint, within an epoch, at its last step, after it, in a later round.
        (IMP, 3, Plug("on_train_batch_start", 2), 0),
        (IMP, 3, Plug("on_train_batch_start", 4), 3),
        (IMP, 1, Plug("on_train_batch_end", 4), 3),
        (IMP, 1, Plug("on_validation_start", 5), 5),
        (IMP, 1, Plug("on_validation_batch_end", 5), 5),
        (IMP, 1, Plug("on_validation_end", 15), 15),
        (IMP, 1, Plug("on_train_epoch_end", 5), 5),
        (IMP, 1, Plug("on_train_epoch_start", 5), 5),
        (IMP, 1, Plug("on_train_batch_start", 5), 5),
        (IMP, 1, Plug("on_train_end", 10), 10),
        (IMP, 4, Plug("on_train_batch_start", STEPS), STEPS),
        (IMP, 4, Plug("on_train_batch_start", STEPS + 9), STEPS + 8),
        (IMP, 1, Plug("on_train_end", 3 * STEPS), 3 * STEPS),
        (IMP, None, Plug("on_train_batch_start", STEPS + 9), STEPS),
        # The step of a late rewind: at it, and long after.
        (LATE, 1, Plug("on_train_batch_start", 4), 4),
        (LATE, 3, Plug("on_train_batch_start", 5), 3),
        (LATE, 4, Plug("on_train_batch_start", STEPS + 5), STEPS + 4),
        # Rounds counted in steps, which end within an epoch.
        (IN_STEPS, 1, Plug("on_train_batch_start", 6), 6),
        (IN_STEPS, 1, Plug("on_train_end", 7), 6),
        (IN_STEPS, 1, Plug("on_train_batch_start", 13), 13),
        # Between two of them, before the first step and after.
        (IN_STEPS, None, Plug("on_train_start", 7), 7),
        (IN_STEPS, None, Plug("on_train_batch_start", 9), 7),
        (IN_STEPS, None, Plug("on_train_batch_start", 16), 14),
        (BY_BATCHES, None, Plug("on_train_batch_start", 9), 7),
        (WHICHEVER, None, Plug("on_train_batch_start", 6), 5),
        # Validation amid epochs, and not after each.
        (HALVES, 1, Plug("on_validation_start", 2), 2),
        (HALVES, 1, Plug("on_train_batch_start", 2), 2),
        (HALVES, 1, Plug("on_train_batch_start", 3), 3),
        (HALVES, 1, Plug("on_train_batch_start", 9), 9),
        (SELDOM, 1, Plug("on_train_batch_start", 5), 4),
        (SELDOM, 1, Plug("on_validation_end", 10), 10),
        # Five batches an epoch make three steps; between the batches of a step there is no checkpoint.
        (PAIRS, 1, Plug("on_train_batch_end", 1, skip=1), 1),
        (PAIRS, 1, Plug("on_train_batch_start", 4, skip=1), 4),
        (PAIRS, 1, Plug("on_validation_start", 3), 3),
        (KEPT, 1, Plug("on_train_batch_start", STEPS + 3), STEPS + 3),
        (PLAIN, 2, Plug("on_train_batch_start", 7), 6),
        (PLAIN, 1, Plug("on_train_end", 10), 10),
        # A mixture: within an epoch, in the evaluation of its first and of its second part, in a later round.
        (MIXED_ROUNDS, 1, Plug("on_train_batch_start", 3), 3),
        (MIXED_ROUNDS, 3, Plug("on_validation_start", STEPS, skip=1), 9),
        (MIXED_ROUNDS, 1, Plug("on_validation_end", STEPS, skip=2), STEPS),
        (MIXED_ROUNDS, 4, Plug("on_train_batch_start", STEPS + 7), STEPS + 4),
        ({"imp": None, **MIXED}, 1, Plug("on_validation_start", 10, skip=2), 10),
    ],
    ids=lambda value: f"{value.hook}-{value.step}" if isinstance(value, Plug) else None,
)
def test_an_interrupted_run_is_resumed_from_the_last_checkpoint_and_ends_the_same(
    settings, every, plug, resumed_after, place, uninterrupted, tmp_path
):
    plug = Plug(plug.hook, plug.step, plug.skip)
    whole = uninterrupted(**settings)
    with pytest.raises(Unplugged):
        run(place, tmp_path, [plug], every=every, **settings)
    watch = Watch()
    assert run(place, tmp_path, [watch], every=every, **settings) == whole
    assert watch.steps[:1] == [resumed_after][: len(watch.steps)]


@pytest.mark.parametrize("moment", ["pruned", "recorded", "ticket written", "rewound", "checkpoint half written"])
def test_an_interruption_between_rounds_changes_nothing(moment, place, uninterrupted, tmp_path, monkeypatch):
    def unplug(*_: Any, **__: Any) -> None:
        raise Unplugged

    with monkeypatch.context() as patch:
        if moment == "pruned":
            patch.setattr(lnsub.training.imp, "check_agreement", unplug)
        elif moment == "recorded":
            patch.setattr(lnsub.training.rounds, "_save_ticket", unplug)
        elif moment == "ticket written":
            patch.setattr(IMPCallback, "start_next_round", unplug)
        elif moment == "rewound":
            patch.setattr(lnsub.training.checkpoint_files, "writing", unplug)
        else:
            patch.setattr(lnsub.training.checkpoint_files, "sync_folder", lambda _: None)
            patch.setattr(torch, "save", lambda _, file: (file.write(b"PK half"), unplug()))
        with pytest.raises(Unplugged):
            run(place, tmp_path, every=None, **IMP)
    assert run(place, tmp_path, every=None, **IMP) == uninterrupted(**IMP)


def test_a_run_that_is_interrupted_again_and_again_ends_the_same(place, uninterrupted, tmp_path):
    for step in (1, 3, 8, 12, 12, 19, 20, 22, 29):
        with pytest.raises(Unplugged):
            run(place, tmp_path, [Plug("on_train_batch_end", step)], every=2, **IMP)
    assert run(place, tmp_path, every=2, **IMP) == uninterrupted(**IMP)


@pytest.mark.slow
def test_a_run_with_loader_workers_is_resumed_exactly(place, tmp_path):
    settings: dict[str, Any] = {"imp": {"sparsities": [0.5]}, "workers": 2}
    whole = run(place, tmp_path / "whole", every=None, **settings)
    assert whole == run(place, tmp_path / "none", every=None, **{**settings, "workers": 0})
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", 8)], **settings)
    assert run(place, tmp_path / "cut", **settings) == whole


@pytest.mark.parametrize("step", [4, STEPS, STEPS + 5])
def test_a_gradient_scaler_is_resumed_exactly(step, place, tmp_path):
    def half() -> list[MixedPrecision]:
        # As a plugin, because Lightning replaces the setting 16-mixed by bfloat16 on a CPU.
        return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3))]

    whole = run(place, tmp_path / "whole", every=None, plugins=half(), **IMP)
    state = torch.load(RunFolder(tmp_path / "whole").checkpoint, weights_only=True)["MixedPrecision"]
    assert state["scale"] == 8.0 * 2 ** (3 * STEPS // 3)  # over all rounds
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", step)], every=1, plugins=half(), **IMP)
    assert run(place, tmp_path / "cut", every=1, plugins=half(), **IMP) == whole


def test_a_round_s_seconds_count_those_before_an_interruption(place, tmp_path):
    class Slow(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                time.sleep(1.0)

    with pytest.raises(Unplugged):
        run(place, tmp_path, [Slow(), Plug("on_train_batch_start", 4)], imp={"sparsities": [0.5]})
    run(place, tmp_path, imp={"sparsities": [0.5]})
    first, second = RunFolder(tmp_path).records("imp")
    assert first.wall_s > 1.0
    assert second.wall_s < first.wall_s


def test_metrics_are_written_once_and_in_order(place, tmp_path):
    with pytest.raises(Unplugged):
        run(place, tmp_path, [Plug("on_train_batch_start", 9)], every=4, log_every_n_steps=1, **IMP)
    run(place, tmp_path, every=4, log_every_n_steps=1, **IMP)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train_loss"]] == list(range(3 * STEPS))
    assert [row["imp/round"] for row in rows if row["imp/round"]] == ["0.0", "1.0", "2.0"]


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_uninterrupted_ones(root):
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--runs", "4", "--seed", "5"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs" in done.stdout
    assert ", 0 different" in done.stdout
