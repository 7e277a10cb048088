"""Loaders: in the middle of an epoch, with workers that signals do not reach, and with batches made ahead."""

import multiprocessing
import subprocess

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lnsub.common.signals import shield_data_worker
from lnsub.data.batching import BatchedRows, Collator, LengthGroupedBatches
from lnsub.data.loaders import ResumableLoader, ShieldedLoader
from tests.support.resuming import IMP, make_place, run
from tests.support.tables import rows_of, table_of

AHEAD = "none, by a thread"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_counts_that_is_set_after_the_iterator_is_made(workers):
    loader = a_loader(60, workers)
    iterator = iter(loader)
    loader.sampler.set_epoch(3)
    expected = rows_of(loader.sampler)
    assert [batch["index"].tolist() for batch in iterator] == expected


@pytest.mark.parametrize("workers", [0, 2, AHEAD])
def test_a_loader_goes_on_where_another_stood(workers, request):
    if workers == AHEAD:
        workers = request.getfixturevalue("prefetching")
    stopped = a_loader(60, workers)
    stopped.sampler.set_epoch(1)
    iterator = iter(stopped)
    seen = [next(iterator)["index"].tolist() for _ in range(3)]
    state = stopped.state_dict()
    assert state == {"epoch": 1, "batch": 3}  # not those that workers have prefetched
    resumed = a_loader(60, workers)
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(1)
    seen += [batch["index"].tolist() for batch in resumed]
    assert seen == rows_of_epoch(resumed.sampler, 1)
    assert resumed.state_dict()["batch"] == len(resumed)


def a_loader(count: int, workers: int = 0) -> ResumableLoader:
    table = table_of(count)
    sampler = LengthGroupedBatches(np.asarray(table["length"]), batch_size=8)
    return ResumableLoader(BatchedRows(table, Collator(0)), sampler=sampler, batch_size=None, num_workers=workers)


def rows_of_epoch(sampler: LengthGroupedBatches, epoch: int) -> list[list[int]]:
    fresh = LengthGroupedBatches(sampler.lengths, batch_size=sampler.batch_size, seed=sampler.seed)
    fresh.set_epoch(epoch)
    return rows_of(fresh)


class Recorder(LightningModule):
    """Writes down the rows of each training batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[list[int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"].tolist())
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def a_trainer(folder, **settings) -> Trainer:
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


@pytest.mark.parametrize("workers", [0, 1, AHEAD])
def test_lightning_sets_the_epoch_and_goes_on_in_the_middle_of_one(tmp_path, workers, request, recwarn):
    if workers == AHEAD:
        workers = request.getfixturevalue("prefetching")
    save = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=11, save_top_k=-1)
    whole = Recorder()
    a_trainer(tmp_path, max_epochs=3, callbacks=[save]).fit(whole, a_loader(60, workers))
    sampler = a_loader(60).sampler
    assert whole.seen == [rows for epoch in range(3) for rows in rows_of_epoch(sampler, epoch)]
    assert len(sampler) == 8
    resumed = Recorder()
    again = ModelCheckpoint(tmp_path, every_n_train_steps=11)
    trainer = a_trainer(tmp_path, max_epochs=3, callbacks=[again])
    trainer.fit(resumed, a_loader(60, workers), ckpt_path=tmp_path / "step=11.ckpt")
    assert resumed.seen == whole.seen[11:]
    assert not [w for w in recwarn if "not resumable" in str(w.message)]


def test_lightning_starts_the_next_epoch_whole_after_a_checkpoint_at_the_end_of_one(tmp_path):
    whole, resumed = Recorder(), Recorder()
    save = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    a_trainer(tmp_path, max_epochs=2, callbacks=[save]).fit(whole, a_loader(60))
    trainer = a_trainer(tmp_path, max_epochs=2, callbacks=[ModelCheckpoint(tmp_path)])
    trainer.fit(resumed, a_loader(60), ckpt_path=tmp_path / "epoch=0.ckpt")
    assert resumed.seen == whole.seen[8:]


def test_workers_end_when_their_parent_says_so_and_at_no_other_signal():
    others = set(multiprocessing.active_children())
    loader = ShieldedLoader(
        range(40),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        worker_init_fn=shield_data_worker,
    )
    batches = iter(loader)
    assert next(batches) == 0
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    for _ in range(3):
        for name in ("TERM", "USR1", "INT"):
            subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    assert list(batches) == list(range(1, 40))
    assert list(loader) == list(range(40))
    for worker in workers:
        worker.terminate()
        worker.join(20)
        assert worker.exitcode == 0


@pytest.fixture
def prefetching(monkeypatch) -> int:
    """Batches are made ahead, as they are for a GPU; returns the number of workers that takes."""
    monkeypatch.setattr(ShieldedLoader, "prefetches", property(lambda loader: loader.num_workers == 0))
    return 0


def test_batches_are_made_ahead_for_a_gpu_unless_workers_make_them():
    def prefetches(**settings: bool | int) -> bool:
        return ShieldedLoader(range(4), batch_size=None, **settings).prefetches  # type: ignore[arg-type]

    assert prefetches(pin_memory=True)
    assert not prefetches()
    assert not prefetches(pin_memory=True, num_workers=1)


def test_a_run_is_the_same_with_batches_made_ahead(tmp_path, cache, request):
    place = make_place(tmp_path)
    plain = run(place, tmp_path / "plain", **IMP)
    request.getfixturevalue("prefetching")
    assert run(place, tmp_path / "ahead", **IMP) == plain
