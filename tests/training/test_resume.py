"""Interrupted wherever it may be and started again, a run ends as one that never was: to the last bit.

These interruptions are exceptions at chosen places; tests/soak.py kills real processes at random moments.
"""

import csv
import json
import os
import re
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision

import lnsub.training.checkpoint_files
import lnsub.training.checkpoints
import lnsub.training.imp
import lnsub.training.rounds
from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.tasks.xnli import XNLI
from lnsub.tickets.ticket import Ticket
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from tests.support.data_makers import WORDS
from tests.support.models import save_checkpoint

LEVELS = [0.3, 0.6]
STEPS = 2 * 5  # a round: two epochs of five batches


class Unplugged(Exception):  # noqa: N818 (no error)
    """What stands for the end of the process."""


@dataclass
class Plug(Callback):
    """Ends the process at a hook, the ``count``-th time that a step is reached there."""

    hook: str
    step: int
    skip: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name == object.__getattribute__(self, "hook"):
            return self._pull
        return object.__getattribute__(self, name)

    def _pull(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.skip == 0:
                raise Unplugged
            self.skip -= 1


class Watch(Callback):
    """Keeps how many steps there were before each batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step)


@dataclass(frozen=True)
class Place:
    """The model and the data that all of these runs share."""

    base: str
    data: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("resume")
    for split, rows in (("train", 40), ("validation", 12)):
        path = folder / "xnli" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for i in range(rows):
            words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 5)]
            lines.append(json.dumps({"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}) + "\n")
        path.write_text("".join(lines))
    base = save_checkpoint(folder / "base", WORDS, dropout=0.2)
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    yield Place(str(base), str(folder / "xnli"))
    datasets.config.HF_DATASETS_CACHE = before


def run(
    place: Place,
    output: Path,
    callbacks: list[Callback] | None = None,
    *,
    imp: dict[str, Any] | None,
    every: int | None = 1,
    workers: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """One process's worth of a run in ``output``; returns what it left behind, as far as it is comparable."""
    datamodule = XNLI("en", place.base, place.data, batch_size=8, max_length=32, seed=3, num_workers=workers)
    module = SubnetModule(datamodule.task, place.base, learning_rate=5e-3, seed=3, warmup=0.2)
    levels = [] if imp is None else [IMPCallback(**{"sparsities": LEVELS, "keep_checkpoint": True, **imp})]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            default_root_dir=output,
            callbacks=[*levels, *(callbacks or [])],
            accelerator="cpu",
            logger=RunCSVLogger(RunFolder(output)),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{"max_epochs": 2, "gradient_clip_val": 1.0, "log_every_n_steps": 2, **settings},
        )
        fit(trainer, module, datamodule, checkpoint_every_n_steps=every)
    return outcome(output)


def outcome(output: Path) -> dict[str, Any]:
    """Tickets, results, weights and logged metrics of a run, in a form that is equal only if they are."""
    folder = RunFolder(output)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    return {
        "tickets": {path.name: Ticket.load(path).checksum for path in sorted((output / "tickets").glob("*"))},
        "results": [
            (r.kind, r.round, r.split, r.metric, r.value, r.n, r.ticket)
            for kind in ("imp", "dense")
            for r in folder.records(kind)
        ],
        "weights": {name: tensor.numpy().tobytes() for name, tensor in state.items()},
        "metrics": (output / "metrics.csv").read_bytes(),
        "files": sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()),
    }


@pytest.fixture(scope="module")
def undisturbed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of a run with these settings that nothing interrupts, which saves between rounds only."""

    @cache
    def made(settings: str) -> dict[str, Any]:
        return run(place, tmp_path_factory.mktemp("whole"), every=None, **json.loads(settings))

    return lambda **settings: made(json.dumps(settings))


IMP: dict[str, Any] = {"imp": {}}
LATE: dict[str, Any] = {"imp": {"rewind": "step", "rewind_step": 4}}
IN_STEPS: dict[str, Any] = {"imp": {}, "max_epochs": -1, "max_steps": 7}
BY_BATCHES: dict[str, Any] = {**IN_STEPS, "check_val_every_n_epoch": None, "val_check_interval": 3}
WHICHEVER: dict[str, Any] = {"imp": {}, "max_epochs": 1, "max_steps": 7}
HALVES: dict[str, Any] = {"imp": {}, "val_check_interval": 0.4}
SELDOM: dict[str, Any] = {"imp": {}, "check_val_every_n_epoch": 2}
PAIRS: dict[str, Any] = {"imp": {}, "accumulate_grad_batches": 2}
KEPT: dict[str, Any] = {"imp": {"rewind": "none", "rewind_lr": False, "head": "keep"}}
PLAIN: dict[str, Any] = {"imp": None}


@pytest.mark.parametrize(
    ("settings", "every", "plug", "resumed_after"),
    [
        # Before the first checkpoint, amid an epoch, at its last step, after it, in a later round.
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
        # The step whose weights a late rewind goes back to: at it, and long after.
        (LATE, 1, Plug("on_train_batch_start", 4), 4),
        (LATE, 3, Plug("on_train_batch_start", 5), 3),
        (LATE, 4, Plug("on_train_batch_start", STEPS + 5), STEPS + 4),
        # Rounds counted in steps, which end amid an epoch.
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
        # Five batches an epoch make three steps; amid two batches there is no checkpoint.
        (PAIRS, 1, Plug("on_train_batch_end", 1, skip=1), 1),
        (PAIRS, 1, Plug("on_train_batch_start", 4, skip=1), 4),
        (PAIRS, 1, Plug("on_validation_start", 3), 3),
        (KEPT, 1, Plug("on_train_batch_start", STEPS + 3), STEPS + 3),
        (PLAIN, 2, Plug("on_train_batch_start", 7), 6),
        (PLAIN, 1, Plug("on_train_end", 10), 10),
    ],
    ids=lambda value: f"{value.hook}-{value.step}" if isinstance(value, Plug) else None,
)
def test_an_interrupted_run_is_resumed_from_the_last_checkpoint_and_ends_the_same(
    settings, every, plug, resumed_after, place, undisturbed, tmp_path
):
    plug = Plug(plug.hook, plug.step, plug.skip)
    whole = undisturbed(**settings)
    with pytest.raises(Unplugged):
        run(place, tmp_path, [plug], every=every, **settings)
    watch = Watch()
    assert run(place, tmp_path, [watch], every=every, **settings) == whole
    assert watch.steps[:1] == [resumed_after][: len(watch.steps)]


@pytest.mark.parametrize("moment", ["pruned", "recorded", "ticket written", "rewound", "checkpoint half written"])
def test_an_interruption_between_rounds_changes_nothing(moment, place, undisturbed, tmp_path, monkeypatch):
    def unplug(*_: Any, **__: Any) -> None:
        raise Unplugged

    with monkeypatch.context() as patch:
        if moment == "pruned":
            patch.setattr(lnsub.training.imp, "check_agreement", unplug)
        elif moment == "recorded":
            patch.setattr(lnsub.training.rounds, "_save_once", unplug)
        elif moment == "ticket written":
            patch.setattr(IMPCallback, "start_next_round", unplug)
        elif moment == "rewound":
            patch.setattr(lnsub.training.checkpoint_files, "writing", unplug)
        else:
            patch.setattr(lnsub.training.checkpoints, "sync_folder", lambda _: None)
            patch.setattr(torch, "save", lambda _, file: (file.write(b"PK half"), unplug()))
        with pytest.raises(Unplugged):
            run(place, tmp_path, every=None, **IMP)
    assert run(place, tmp_path, every=None, **IMP) == undisturbed(**IMP)


def test_a_run_that_is_interrupted_again_and_again_ends_the_same(place, undisturbed, tmp_path):
    for step in (1, 3, 8, 12, 12, 19, 20, 22, 29):
        with pytest.raises(Unplugged):
            run(place, tmp_path, [Plug("on_train_batch_end", step)], every=2, **IMP)
    assert run(place, tmp_path, every=2, **IMP) == undisturbed(**IMP)


@pytest.mark.slow
def test_workers_of_the_loader_make_no_difference_to_what_is_gone_on_with(place, tmp_path):
    settings: dict[str, Any] = {"imp": {"sparsities": [0.5]}, "workers": 2}
    whole = run(place, tmp_path / "whole", every=None, **settings)
    assert whole == run(place, tmp_path / "none", every=None, **{**settings, "workers": 0})
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", 8)], **settings)
    assert run(place, tmp_path / "cut", **settings) == whole


@pytest.mark.parametrize("step", [4, STEPS, STEPS + 5])
def test_a_gradient_scaler_is_resumed_exactly(step, place, tmp_path):
    def half() -> list[MixedPrecision]:
        # Given as a plugin, since Lightning takes bfloat16 on a CPU where it is asked for 16-mixed by name.
        return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3))]

    whole = run(place, tmp_path / "whole", every=None, plugins=half(), **IMP)
    state = torch.load(RunFolder(tmp_path / "whole").checkpoint, weights_only=True)["MixedPrecision"]
    assert state["scale"] == 8.0 * 2 ** (3 * STEPS // 3)  # over all rounds
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", step)], every=1, plugins=half(), **IMP)
    assert run(place, tmp_path / "cut", every=1, plugins=half(), **IMP) == whole


def cut(place: Place, output: Path) -> RunFolder:
    """A run that was interrupted in round 1, with a checkpoint at each step."""
    with pytest.raises(Unplugged):
        run(place, output, [Plug("on_train_batch_start", STEPS + 4)], **IMP)
    return RunFolder(output)


def flip(path: Path, name: str = "model.classifier.weight") -> None:
    """Changes one bit of a weight in a checkpoint."""
    weight = torch.load(path, weights_only=True)["state_dict"][name].numpy().tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(weight) + len(weight) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["cut short", "changed", "emptied"])
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_the_damage_kept(
    damage, place, undisturbed, tmp_path, caplog
):
    folder = cut(place, tmp_path)
    if damage == "changed":
        flip(folder.checkpoint)
    else:
        size = folder.checkpoint.stat().st_size
        folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[: size // 2 if damage == "cut short" else 0])
    evidence = folder.checkpoint.read_bytes()
    watch = Watch()
    with caplog.at_level("WARNING", "lnsub"):
        after = run(place, tmp_path, [watch], **IMP)
    assert watch.steps[0] == STEPS + 3
    assert "last.ckpt is damaged" in caplog.text
    kept = folder.checkpoint.with_name("last.ckpt.damaged")
    assert kept.read_bytes() == evidence
    kept.unlink()
    whole = undisturbed(**IMP)
    assert outcome(tmp_path) == whole == {**after, "files": whole["files"]}


def test_with_no_good_checkpoint_left_the_run_says_so_and_touches_nothing(place, tmp_path):
    folder = cut(place, tmp_path)
    flip(folder.checkpoint)
    flip(folder.previous_checkpoint)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(UserError, match=r"last\.ckpt .* delete .*checkpoints"):
            run(place, tmp_path, **IMP)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_changed_bit_in_any_weight_is_noticed(place, tmp_path):
    folder = cut(place, tmp_path)
    whole = folder.checkpoint.read_bytes()
    checkpoints = Checkpoints(folder)
    assert checkpoints.newest() == folder.checkpoint
    for name in torch.load(folder.checkpoint, weights_only=True)["state_dict"]:
        flip(folder.checkpoint, name)
        assert checkpoints.newest() == folder.previous_checkpoint, name
        folder.checkpoint.write_bytes(whole)


def test_another_number_of_processes_cannot_resume_amid_an_epoch(place, tmp_path):
    folder = cut(place, tmp_path)
    for path in (folder.checkpoint, folder.previous_checkpoint):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["lnsub"]["random"] *= 4
        torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"epoch on 4 processes.* on 1"):
        run(place, tmp_path, **IMP)


def test_another_number_of_processes_can_resume_at_the_next_round(place, undisturbed, tmp_path):
    with pytest.raises(Unplugged):
        run(place, tmp_path, [Plug("on_train_batch_start", STEPS)], every=None, **IMP)
    checkpoint = torch.load(RunFolder(tmp_path).checkpoint, weights_only=True)
    checkpoint["lnsub"]["random"] *= 4
    torch.save(checkpoint, RunFolder(tmp_path).checkpoint)
    assert run(place, tmp_path, every=None, **IMP) == undisturbed(**IMP)


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


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "every", "names"),
    [
        (20_000, 1, "last.partial"),
        (1_500, None, "s0.30.safetensors"),
        (300, None, "results.jsonl"),
        (150, None, "metrics.csv"),
    ],
)
def test_a_full_disk_stops_the_run_with_a_sentence_and_room_lets_it_go_on(
    limit, every, names, place, undisturbed, tmp_path
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on file size stops a write in the middle, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(UserError, match=rf"Cannot write {tmp_path}.*{names}: files may not .* Make room"):
            run(place, tmp_path, every=every, **IMP)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*partial"))
    assert run(place, tmp_path, every=every, **IMP) == undisturbed(**IMP)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_exit_status_2(place, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        done = subprocess.run(
            command(place, tmp_path), env=environment(place), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if "error" in line.lower())
        assert re.match(rf"lnsub: error: Cannot write {tmp_path}.*: the disk is full\. Make room", line)
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.rglob("*partial"))
        subprocess.run(["mount", "-o", "remount,size=10m", tmp_path], check=True)
        again = subprocess.run(command(place, tmp_path), env=environment(place), check=False)
        assert again.returncode == 0
        assert {r.round for r in RunFolder(tmp_path / "xnli" / "en" / "seed57").records("imp")} == {0, 1, 2}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Other processes ------------------------------------------------------------------------------------------------------


def command(place: Place, output: Path) -> list[str]:
    """A run through the command line."""
    settings = {
        "data": "lnsub.XNLI",
        "data.init_args.language": "en",
        "data.init_args.dataset": place.data,
        "data.init_args.max_length": 32,
        "model.base_model": place.base,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.callbacks": "lnsub.IMPCallback",
        "trainer.callbacks.sparsities": "[0.3,0.6]",
        "output": output,
    }
    return [sys.executable, "-m", "lnsub", "fit", *(f"--{key}={value}" for key, value in settings.items())]


def environment(place: Place) -> dict[str, str]:
    return {**os.environ, "HF_DATASETS_CACHE": str(Path(place.data).parent / "cache"), "OMP_NUM_THREADS": "1"}


def test_a_run_in_use_by_another_process_is_left_to_it_until_that_is_dead(place, tmp_path, capsys):
    lock = tmp_path / "xnli" / "en" / "seed57" / ".lock"
    lock.parent.mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert main(command(place, tmp_path)[3:]) == 2
        assert f"{lock.parent} is in use" in capsys.readouterr().err
        assert [path.name for path in lock.parent.iterdir()] == [".lock"]
        holder.kill()
    assert main(command(place, tmp_path)[3:]) == 0
    assert {r.round for r in RunFolder(lock.parent).records("imp")} == {0, 1, 2}


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_undisturbed_ones(root):
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
