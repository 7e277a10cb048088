"""Checkpoints by time, written in the background: training goes on, and the file is of the step it was taken at."""

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from threading import Event
from typing import Any

import datasets
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

import lnsub.training.checkpoint_files
from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.common.files import writing
from lnsub.runs.folder import RunFolder
from lnsub.training.background import CheckpointWriter, host_copy
from tests.support import ddp_cases
from tests.support.file_limits import file_size_limit
from tests.support.processes import on_ranks
from tests.support.resuming import IMP, STEPS, Plug, Unplugged, Watch, command, environment, outcome, run
from tests.support.trials import differing

NOW = 1e-9
"""Minutes after which a checkpoint is due at once."""


class At(Callback):
    """Calls a function at the start of a step."""

    def __init__(self, step: int, function: Any) -> None:
        self.step, self.function = step, function

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.function()


def alike(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, except for the time that the fit had taken."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one if key != "seconds")
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def read(folder: RunFolder) -> dict[str, Any]:
    return torch.load(folder.checkpoint, weights_only=True)


def test_what_shares_a_storage_still_does_in_the_copy_and_in_the_file(tmp_path):
    weight = torch.randn(50, 20)
    other = {"turned": weight.T, "rows": [weight[3:7]], "empty": torch.empty(0), "scale": torch.tensor(2.0)}
    checkpoint = {"state_dict": {"embedding": weight, "head": weight.view(-1)}, "callbacks": other, "epoch": 3}
    copied = host_copy(checkpoint)
    expected = {"state_dict": {"embedding": weight.clone(), "head": weight.reshape(-1).clone()}, "callbacks": 4}
    weight.zero_()
    other["scale"].zero_()
    checkpoint["epoch"] = 4
    torch.save(copied, tmp_path / "x")
    for found in (copied, torch.load(tmp_path / "x", weights_only=True)):
        state, others = found["state_dict"], found["callbacks"]
        assert alike(state, expected["state_dict"])
        assert torch.equal(others["turned"], expected["state_dict"]["embedding"].T)
        assert torch.equal(others["rows"][0], expected["state_dict"]["embedding"][3:7])
        assert (float(others["scale"]), others["empty"].numel(), found["epoch"]) == (2.0, 0, 3)
        shared = (state["embedding"], state["head"], others["turned"], others["rows"][0])
        assert {tensor.untyped_storage().data_ptr() for tensor in shared} == {state["embedding"].data_ptr()}
        assert state["embedding"].data_ptr() != weight.data_ptr()
    assert (tmp_path / "x").stat().st_size < 2 * weight.nbytes


def test_training_goes_on_while_a_checkpoint_is_written_which_has_the_weights_of_its_step(place, tmp_path, monkeypatch):
    release = Event()

    @contextlib.contextmanager
    def held(path: Path) -> Any:
        assert release.wait(60)
        with writing(path) as file:
            yield file

    # Without the clock's restraint while a write is on, the second checkpoint would wait for the first, for ever.
    plugs = [At(8, release.set), Plug("on_train_batch_start", 8)]
    monkeypatch.setattr(lnsub.training.checkpoint_files, "writing", held)
    with pytest.raises(Unplugged):
        run(place, tmp_path / "held", plugs, imp=None, every=None, minutes=NOW)
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", 1)], imp=None, every=1)
    found, expected = read(RunFolder(tmp_path / "held")), read(RunFolder(tmp_path / "cut"))
    assert found["global_step"] == 1
    assert alike(found, expected)


def test_a_run_that_saves_by_time_is_resumed_within_a_round_and_ends_the_same(place, uninterrupted, tmp_path):
    with pytest.raises(Unplugged):
        run(place, tmp_path, [Plug("on_train_batch_start", STEPS + 7)], every=None, minutes=NOW, **IMP)
    watch = Watch()
    assert run(place, tmp_path, [watch], every=None, minutes=NOW, **IMP) == uninterrupted(**IMP)
    assert STEPS < watch.steps[0] <= STEPS + 7


def test_a_full_disk_is_told_once_training_is_past_the_step_and_earlier_checkpoints_are_kept(
    place, uninterrupted, tmp_path
):
    watch = Watch()
    with contextlib.ExitStack() as full:
        steps = [At(5, lambda: full.enter_context(file_size_limit(20_000))), watch]
        with pytest.raises(UserError, match=rf"{tmp_path}.*last\.partial: .*size limit"):
            run(place, tmp_path, steps, every=3, **IMP)
    assert 6 <= watch.steps[-1] < STEPS
    assert read(RunFolder(tmp_path))["global_step"] == 3
    assert not list(tmp_path.rglob("*partial"))
    assert run(place, tmp_path, every=3, **IMP) == uninterrupted(**IMP)


def test_whoever_saves_next_is_told_of_a_failure_and_may_save_again(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoint.parent.touch()  # in the place of the folder
    writer = CheckpointWriter(folder)
    writer.start({"epoch": 1})
    with pytest.raises(UserError, match="is a file"):
        writer.start({"epoch": 2})
    folder.checkpoint.parent.unlink()
    writer.start({"epoch": 3})
    writer.start({"epoch": 4})
    writer.wait()
    assert not writer.busy
    written = [torch.load(path) for path in (folder.previous_checkpoint, folder.checkpoint)]
    assert written == [{"epoch": 3}, {"epoch": 4}]


@pytest.mark.slow
def test_a_run_that_is_killed_amid_a_write_ends_as_an_undisturbed_one(place, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(place.data).parent / "cache")
    where = Path("xnli") / "en" / "seed57"

    def line(name: str) -> list[str]:
        stick = {"": "tests.support.interrupting.StickAt", ".step": 5, ".mark": tmp_path / name / "mark"}
        added = [f"--trainer.callbacks{'' if key else '+'}{key}={value}" for key, value in stick.items()]
        more = ["checkpoint_every_n_steps=3", "data.init_args.batch_size=4", "trainer.callbacks.keep_checkpoint=true"]
        whole = [*command(place, tmp_path / name), *(f"--{setting}" for setting in more)]
        return [*whole, *added] if name == "killed" else whole

    killed = tmp_path / "killed"
    with subprocess.Popen(line("killed"), env=environment(place), stderr=subprocess.PIPE, text=True) as process:
        while not (killed / "mark").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert read(RunFolder(killed / where))["global_step"] == 3
    assert (killed / where / "checkpoints" / "last.partial").is_fifo()
    for name in ("killed", "whole"):
        assert main(line(name)[3:]) == 0
    found, expected = outcome(killed / where), outcome(tmp_path / "whole" / where)
    assert found == expected, differing(found, expected)


@pytest.mark.slow
def test_ranks_whose_clocks_differ_save_at_the_same_steps(place, tmp_path):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=2"]
    by_time = ["--checkpoint_every_minutes=1", "--trainer.callbacks.keep_checkpoint=true"]
    lines = [[*command(place, tmp_path / str(i))[3:], *two, *by_time] for i in range(2)]
    cache = Path(place.data).parent / "cache"
    # By the seconds that a look at it advances it: rank 0's is the faster one, then it stands still.
    first, second = on_ranks(2, ddp_cases.saving, lines, [(20.0, 0.1), (0.0, 1000.0)], cache)
    assert first == second
    assert len(first[0]) > 3
    assert first[1] == []


@pytest.mark.gpu
def test_a_copy_from_a_gpu_is_in_the_host_s_memory_and_of_its_moment():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    weight = torch.arange(6.0, device="cuda").view(2, 3)
    copied = host_copy({"embedding": weight, "head": weight[1], "step": torch.tensor(3.0)})
    weight.zero_()
    assert {tensor.device.type for tensor in copied.values()} == {"cpu"}
    assert copied["embedding"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert copied["head"].data_ptr() == copied["embedding"][1].data_ptr()
