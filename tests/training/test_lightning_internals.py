"""The private names of Lightning that lnsub relies on are where they were, and a loop's state is laid out as it was."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.constants import default_pg_timeout

from lnsub.training import lightning_internals as internals


class Watch(Callback):
    """Asks the functions in the hook that they are for, at each batch, and saves a checkpoint at the fifth."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: list[tuple[bool, bool, bool]] = []
        self.rows: list[object] = []

    def setup(self, trainer: Trainer, pl_module: BoringModel, stage: str) -> None:
        internals.disable_signal_handlers(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: BoringModel, *_: object) -> None:
        pl_module.log("seen", float(trainer.global_step))
        self.answers.append(
            (
                internals.is_between_steps(trainer),
                internals.epoch_is_over(trainer),
                internals.validation_is_due(trainer),
            )
        )
        self.rows.append(internals.pending_log_row(trainer))
        if len(self.answers) == 5:
            trainer.save_checkpoint(self.path)


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """One epoch of six batches, two to an optimizer step, validated after the fourth."""
    folder = tmp_path_factory.mktemp("fit")
    watch = Watch(folder / "mid-epoch.ckpt")
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=1,
        limit_train_batches=6,
        limit_val_batches=2,
        val_check_interval=4,
        accumulate_grad_batches=2,
        log_every_n_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
    )
    trainer.fit(BoringModel(), datamodule=BoringDataModule())
    return watch


def test_a_batch_is_known_for_what_it_ends(watch):
    between, over, due = zip(*watch.answers, strict=True)
    assert between == (False, True) * 3
    assert over == (False,) * 5 + (True,)
    assert due == (False, False, False, True, False, False)


def test_no_row_is_announced_where_nothing_logs(watch):
    assert watch.rows == [None] * 6


def test_a_checkpoint_s_progress_is_laid_out_as_settling_it_takes_for_granted(watch):
    loops = torch.load(watch.path, weights_only=True)["loops"]["fit_loop"]
    batches, validation = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    counts = {"ready": 5, "started": 5, "processed": 5, "completed": 4}  # amid its hook, the fifth is not complete yet
    assert batches["total"] == batches["current"] == counts
    assert validation.keys() == {"total", "current", "is_last_batch"}
    internals.correct_progress(loops, validate=True)
    assert batches["current"]["completed"] == 5
    assert validation["current"] == {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    assert validation["is_last_batch"] is False


class Places(Callback):
    """Keeps, for each batch, the epoch and the place in it; on demand it starts a new epoch."""

    def __init__(self, *, anew: bool = False) -> None:
        self.anew = anew
        self.seen: list[tuple[int, int]] = []

    def on_train_start(self, trainer: Trainer, pl_module: BoringModel) -> None:
        if self.anew:
            internals.start_new_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: BoringModel, batch: object, index: int) -> None:
        self.seen.append((trainer.current_epoch, index))


@pytest.mark.parametrize("anew", [False, True])
def test_a_fit_bounded_by_steps_resumes_with_a_new_epoch_where_it_is_told_to(anew, tmp_path):
    def trainer(steps: int, places: Places) -> Trainer:
        return Trainer(
            default_root_dir=tmp_path,
            max_steps=steps,
            limit_train_batches=5,
            limit_val_batches=0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[places],
        )

    first = trainer(2, Places())
    first.fit(BoringModel(), datamodule=BoringDataModule())
    first.save_checkpoint(tmp_path / "between.ckpt")
    places = Places(anew=anew)
    trainer(5, places).fit(BoringModel(), datamodule=BoringDataModule(), ckpt_path=tmp_path / "between.ckpt")
    # Lightning's own way, the first of these, is what the function is for.
    assert places.seen == ([(1, 0), (1, 1), (1, 2)] if anew else [(1, 2), (1, 3), (1, 4)])


def test_what_a_loop_s_state_lacks_is_named(watch):
    loops = torch.load(watch.path, weights_only=True)["loops"]
    trainer = Trainer(accelerator="cpu", logger=False)
    assert internals.missing_progress(trainer, loops) == set()
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        del loops["fit_loop"][name]
    assert internals.missing_progress(trainer, loops) == {"epoch_progress", "epoch_loop.batch_progress"}


def test_the_row_to_come_is_what_the_logger_then_gets(tmp_path):
    got: list[tuple[dict[str, float], int]] = []
    announced: list[object] = []

    class Keeping(DummyLogger):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            got.append((dict(metrics), step))

    class Asking(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
            announced.append(internals.pending_log_row(trainer))

    class Logging(BoringModel):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, torch.Tensor]:
            outputs = super().training_step(batch, batch_idx)
            self.log("loss", outputs["loss"])
            return outputs

    trainer = Trainer(
        default_root_dir=tmp_path,
        max_steps=4,
        limit_val_batches=0,
        log_every_n_steps=2,
        accelerator="cpu",
        logger=Keeping(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Asking()],
    )
    trainer.fit(Logging(), datamodule=BoringDataModule())
    assert [row for row in announced if row is not None] == got
    assert len(got) == 2


def test_ranks_wait_as_long_as_asked_unless_the_strategy_says_otherwise():
    strategy = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False).strategy
    assert internals.rank_timeout(strategy) == default_pg_timeout
    internals.set_rank_timeout(strategy, timedelta(minutes=3))
    assert internals.rank_timeout(strategy) == timedelta(minutes=3)
    internals.set_rank_timeout(strategy, timedelta(minutes=5))
    assert internals.rank_timeout(strategy) == timedelta(minutes=3)
    assert internals.rank_timeout(Trainer(accelerator="cpu", devices=1, logger=False).strategy) is None


def test_launched_ranks_are_watched():
    strategy = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False).strategy
    assert type(strategy.launcher) is _SubprocessScriptLauncher
    internals.watch_launches(strategy, lambda children: None, lambda parent: None)
    assert isinstance(strategy.launcher, internals._WatchedLauncher)
    assert callable(strategy.launcher._call_children_scripts)
    assert strategy.launcher.procs == []


def test_lightning_s_own_signal_handlers_can_be_switched_off():
    trainer = Trainer(accelerator="cpu", logger=False)
    assert callable(type(trainer._signal_connector).register_signal_handlers)
    assert callable(type(trainer.fit_loop.epoch_loop)._broadcast_sigterm_tensor)
