"""Checkpoints that a run goes on from bit for bit, wherever it was interrupted.

A checkpoint is taken after an optimizer step, or between rounds. Beside what Lightning keeps (weights and masks,
optimizer, schedule, gradient scaler, progress, the callbacks' state) it holds the state of every process's random
numbers, the position in the data, and how far ``metrics.csv`` was.

In a run's folder::

    checkpoints/last.ckpt          the newest
    checkpoints/previous.ckpt      the one before, for where the newest is damaged
    checkpoints/*.damaged          what could not be read and was passed over
"""

import contextlib
import logging
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.errors import UserError
from lnsub.common.files import sync_folder, writing
from lnsub.runs.folder import RunFolder
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit_state import (
    gathered,
    random_states,
    row_to_come,
    set_random_states,
    settle_buckets,
    settle_progress,
    started_from,
    train_loader,
)

log = logging.getLogger(__name__)

EVERY_N_STEPS = 1000
"""Optimizer steps between checkpoints, unless told otherwise."""


class Checkpoints(Callback):
    """Writes a run's checkpoints, finds the one to go on from, and puts back what Lightning does not.

    It is the last of the trainer's callbacks, so that it saves what the others have done at a step; see :meth:`attach`.

    Args:
        folder: the run's folder.
        every_n_steps: optimizer steps from one checkpoint to the next; None: only between rounds.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int | None = EVERY_N_STEPS) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self._saved_at = 0  # the global step of the last checkpoint
        self._begun = time.perf_counter()  # of this fit, in this process
        self._seconds_before = 0.0  # of this fit, in processes that were interrupted
        self._saving = False
        self._resumed: dict[str, Any] | None = None  # what is yet to be put back
        self._rows: int | None = 0  # of metrics.csv that a checkpoint vouches for; None: all that are there

    @classmethod
    def of(cls, trainer: Trainer) -> "Checkpoints":
        """The one among a trainer's callbacks."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))

    def attach(self, trainer: Trainer) -> None:
        """Makes it the last of the trainer's callbacks, and checkpoints go to the disk directly and durably."""
        trainer.callbacks[:] = [c for c in trainer.callbacks if not isinstance(c, Checkpoints)] + [self]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = _DurableIO()

    @property
    def seconds(self) -> float:
        """Seconds that the fit at hand has taken, before interruptions too."""
        return self._seconds_before + time.perf_counter() - self._begun

    # Saving ---------------------------------------------------------------------------------------------------------

    def savable(self, trainer: Trainer) -> bool:
        """Whether a checkpoint taken in ``on_train_batch_end``, now, can be gone on with exactly.

        Not while gradients are accumulated, nor after the last step of a fit that is counted in steps, nor at the end
        of an epoch that is not validated. The answer is the same on all ranks.
        """
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or trainer.global_step == trainer.max_steps:
            return False
        return self._validation_is_due(trainer) or not loop._num_ready_batches_reached()

    def save(self, trainer: Trainer, *, weights_only: bool = False) -> None:
        """Writes a checkpoint; all ranks call it, between fits or in ``on_train_batch_end`` where :meth:`savable`.

        The one before stays as a fallback. A crash at any moment leaves one of them whole.

        Args:
            trainer: the run's.
            weights_only: the trained model alone, at a run's end; nothing goes on from that.

        Raises:
            UserError: it cannot be written: the disk is full, say. The earlier ones are untouched.
        """
        part = self.folder.checkpoint.with_suffix(".partial")
        self._saving = True
        try:
            trainer.save_checkpoint(part, weights_only=weights_only)
        finally:
            self._saving = False
        if trainer.is_global_zero:
            try:
                _check_whole(part)
            except _DamagedError as error:
                raise UserError(f"{part} does not read back as it was written ({error}): look at the disk.") from error
            if self.folder.checkpoint.exists():
                self.folder.checkpoint.replace(self.folder.previous_checkpoint)
            part.replace(self.folder.checkpoint)
            sync_folder(self.folder.checkpoint.parent)
        trainer.strategy.barrier()
        self._saved_at = trainer.global_step

    def finish(self, trainer: Trainer, *, keep: bool) -> None:
        """Removes the checkpoints of a run that is done; with ``keep`` the newest one stays."""
        if trainer.is_global_zero:
            self.folder.previous_checkpoint.unlink(missing_ok=True)
            if not keep:
                self.folder.checkpoint.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # where there is none, or evidence of damage in it
                    self.folder.checkpoint.parent.rmdir()

    # Finding --------------------------------------------------------------------------------------------------------

    def newest(self) -> Path | None:
        """The newest whole checkpoint to go on from; None where there is none.

        Damaged ones are passed over with a warning, and kept under another name. All ranks find the same.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        damaged: dict[Path, str] = {}
        for path in (self.folder.checkpoint, self.folder.previous_checkpoint):
            try:
                if not path.exists() or not _resumable(path):
                    continue
            except _DamagedError as error:
                damaged[path] = str(error)
                continue
            for other, reason in damaged.items():
                if rank_zero_only.rank == 0:
                    log.warning(f"{other} is damaged ({reason}); going on from the one before it, {path.name}.")
                    other.replace(other.with_name(f"{other.name}.damaged"))
            return path
        if damaged:
            raise UserError(
                f"{next(iter(damaged))} cannot be read ({next(iter(damaged.values()))}), and there is no good one "
                f"before it; delete {self.folder.checkpoint.parent} to start this run again."
            )
        return None

    # What Lightning calls -------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and takes rows that no checkpoint vouches for off ``metrics.csv``."""
        self._begun = time.perf_counter()
        self._seconds_before = self._resumed["seconds"] if self._resumed else 0.0
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger) and self._rows is not None:
                logger.keep_rows(self._rows)
        self._rows = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts back, last of all, what a resumed fit needs and Lightning does not keep."""
        state, self._resumed = self._resumed, None
        self._saved_at = trainer.global_step
        if state is None:
            return
        if state["position"] is not None:
            settle_buckets(trainer, pl_module)
            # Lightning does so when it makes the loader, but the schedule's length needed the loader before that.
            train_loader(trainer).load_state_dict(state["position"])
        set_random_states(trainer, state["random"][trainer.global_rank % len(state["random"])])
        if state["row"] is not None:
            for logger in trainer.loggers:
                logger.log_metrics(*state["row"])
                logger.save()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Saves every so many steps."""
        if self.every_n_steps and trainer.global_step - self._saved_at >= self.every_n_steps and self.savable(trainer):
            self.save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning leaves out; all ranks call it together."""
        if not self._saving:
            return
        amid = trainer.training
        csv = next((logger for logger in trainer.loggers if isinstance(logger, RunCSVLogger)), None)
        checkpoint["lnsub"] = {
            "random": gathered(trainer, random_states(trainer)),
            "rows": csv.rows if csv and trainer.is_global_zero else None,
            "seconds": self.seconds if amid else 0.0,
            "started_from": started_from(pl_module),
            "position": train_loader(trainer).state_dict() if amid else None,
            "row": row_to_come(trainer) if amid else None,
        }
        if amid:
            settle_progress(checkpoint["loops"]["fit_loop"], self._validation_is_due(trainer))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps it for when the fit has been set up.

        Raises:
            UserError: the base model or the ticket is another one than the run was begun with, or another number of
                processes would go on in the middle of an epoch.
        """
        state = checkpoint.get("lnsub")
        if state is None:  # of a version that saved between rounds only
            self._rows = None
            return
        for what, checksum in started_from(pl_module).items():
            if state["started_from"][what] != checksum:
                raise UserError(
                    f"{self.folder.path} was begun with another {what}: its weights differ. Use the same one again, or "
                    "another --output."
                )
        processes = len(state["random"])
        if state["position"] is not None and processes != trainer.world_size:
            raise UserError(
                f"{self.folder.path} was interrupted in the middle of an epoch on {processes} processes, so it cannot "
                f"go on with {trainer.world_size}: start it with {processes}, and --checkpoint_every_n_steps=null; "
                "from the beginning of the next round on, another number will do."
            )
        self._resumed = state
        self._rows = state["rows"]

    @staticmethod
    def _validation_is_due(trainer: Trainer) -> bool:
        loop = trainer.fit_loop
        return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


class _DurableIO(TorchCheckpointIO):
    """Writes straight to the path and waits for the disk. Lightning's goes by way of the temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(Path(path)) as file:
            torch.save(checkpoint, file)


class _DamagedError(Exception):
    """A checkpoint that is not as it was written; the message is the reason."""


def _check_whole(path: Path) -> None:
    """Reads all of a checkpoint and compares its checksums; raises _DamagedError."""
    try:
        with zipfile.ZipFile(path) as file:
            part = file.testzip()
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
        raise _DamagedError(str(error)) from error
    if part is not None:
        raise _DamagedError(f"the checksum of {part} is wrong")


def _resumable(path: Path) -> bool:
    """Whether a run can go on from a checkpoint; False for one of weights alone. Raises _DamagedError."""
    _check_whole(path)
    try:
        return "callbacks" in torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:
        raise _DamagedError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
