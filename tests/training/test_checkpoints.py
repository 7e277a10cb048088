"""Damaged checkpoints, and checkpoints of another number of processes."""

from pathlib import Path

import pytest
import torch

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.training.checkpoints import Checkpoints
from tests.support.resuming import IMP, STEPS, Plug, Unplugged, Watch, cut, outcome, run


def flip(path: Path, name: str = "model.classifier.weight") -> None:
    """Changes one bit of a weight in a checkpoint."""
    weight = torch.load(path, weights_only=True)["state_dict"][name].numpy().tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(weight) + len(weight) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["cut short", "changed", "emptied"])
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_the_damage_kept(
    damage, place, uninterrupted, tmp_path, caplog
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
    whole = uninterrupted(**IMP)
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


def test_another_number_of_processes_cannot_resume_within_an_epoch(place, tmp_path):
    folder = cut(place, tmp_path)
    for path in (folder.checkpoint, folder.previous_checkpoint):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["lnsub"]["random"] *= 4
        torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"on 4 processes.* on 1"):
        run(place, tmp_path, **IMP)


def test_another_number_of_processes_can_resume_at_the_next_round(place, uninterrupted, tmp_path):
    with pytest.raises(Unplugged):
        run(place, tmp_path, [Plug("on_train_batch_start", STEPS)], every=None, **IMP)
    checkpoint = torch.load(RunFolder(tmp_path).checkpoint, weights_only=True)
    checkpoint["lnsub"]["random"] *= 4
    torch.save(checkpoint, RunFolder(tmp_path).checkpoint)
    assert run(place, tmp_path, every=None, **IMP) == uninterrupted(**IMP)
