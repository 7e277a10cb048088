"""Checkpoints from which a run resumes bit for bit, wherever it was interrupted.

A checkpoint is taken after an optimizer step, or between rounds. In addition to what Lightning saves (weights and
masks, optimizer, schedule, gradient scaler, progress, callback states) it holds every process's random number
generator states, the position in the data, and the number of rows of ``metrics.csv``.

In a run's folder::

    checkpoints/last.ckpt          the newest
    checkpoints/previous.ckpt      the one before, the fallback if the newest is damaged
    checkpoints/*.damaged          unreadable checkpoints, set aside
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from lnsub.common.errors import UserError
from lnsub.common.signals import Preempted
from lnsub.runs.folder import RunFolder
from lnsub.training.background import CheckpointWriter, DurableIO
from lnsub.training.callbacks import RunCallback
from lnsub.training.checkpoint_files import (
    explaining,
    misfit,
    newest_of,
    partial_of,
    read_checkpoint,
    refuse_others,
    rotate,
)
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit_state import is_savable, restore_fit, started_from, state_of_fit
from lnsub.training.lightning_internals import (
    correct_progress,
    disable_signal_handlers,
    missing_progress,
    start_new_epoch,
    validation_is_due,
)
from lnsub.training.module import SubnetModule
from lnsub.training.other_callbacks import check_callbacks, drop_default_checkpoints
from lnsub.training.preemption import StepVote

log = logging.getLogger(__name__)

EVERY_MINUTES = 10.0
"""Default number of minutes between checkpoints."""


class Checkpoints(RunCallback):
    """Writes a run's checkpoints, stops the run when a signal asks for it, and resumes it exactly.

    It must be the trainer's last callback, because it saves what the others have done at a step; :meth:`attach`
    ensures that. A signal that arrives between two fits, during pruning or during validation is handled at the next
    fit or step.

    Args:
        folder: the run's folder.
        every_minutes: minutes between checkpoints, by rank 0's clock; None: not by time.
        every_n_steps: optimizer steps between checkpoints; None: not by steps. With both, whichever is due first.
    """

    def __init__(
        self, folder: RunFolder, every_minutes: float | None = EVERY_MINUTES, every_n_steps: int | None = None
    ) -> None:
        self.folder = folder
        self.every_minutes = every_minutes
        self.every_n_steps = every_n_steps
        self._writer = CheckpointWriter(folder)
        self._vote = StepVote()
        self._step = 0  # the global step after the last batch
        self._saved_at = 0  # the global step of the last checkpoint
        self._saved_when = monotonic()
        self._started = perf_counter()  # this fit, in this process
        self._seconds_before = 0.0  # of this fit, in earlier, interrupted processes
        self._saving = False
        self._restoring = False  # whether the state of a checkpoint is being restored
        self._between = False  # whether the next fit is resumed from between two fits
        self._resumed: dict[str, Any] | None = None  # state still to be restored
        self._rows: int | None = 0  # rows of metrics.csv covered by a checkpoint; None: all rows

    @classmethod
    def of(cls, trainer: Trainer) -> "Checkpoints":
        """The instance among a trainer's callbacks."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))

    def attach(self, trainer: Trainer, module: SubnetModule) -> "Checkpoints":
        """Adds this as the trainer's last callback, and makes the trainer write checkpoints durably.

        Raises:
            UserError: another callback would keep an interrupted run from ending the same.
        """
        drop_default_checkpoints(trainer)
        check_callbacks(trainer, module.logged)
        trainer.callbacks[:] = [c for c in trainer.callbacks if not isinstance(c, Checkpoints)] + [self]
        if type(trainer.strategy.checkpoint_io) in {TorchCheckpointIO, DurableIO}:
            # What is gathered from all processes may barely fit into the memory of one host, let alone twice.
            sharded = isinstance(trainer.strategy, ModelParallelStrategy)
            trainer.strategy.checkpoint_io = DurableIO(self._writer, wait=sharded)
        return self

    @property
    def seconds(self) -> float:
        """Duration of the current fit in seconds, including the time before interruptions."""
        return self._seconds_before + perf_counter() - self._started

    # Saving ---------------------------------------------------------------------------------------------------------

    def save(self, trainer: Trainer, *, weights_only: bool = False, wait: bool = False) -> None:
        """Saves a checkpoint: copies it, and starts to write it in the background.

        Every rank must call it, between fits or where :func:`~lnsub.training.fit_state.is_savable` says so.

        Args:
            trainer: the run's trainer.
            weights_only: save only the trained model, at the end of a run; such a checkpoint cannot be resumed from.
            wait: return once it is durable.

        Raises:
            UserError: it, or the one before it, cannot be written, for example because the disk is full. Earlier ones
                are untouched.
        """
        self._saving = True
        try:
            trainer.save_checkpoint(partial_of(self.folder), weights_only=weights_only)
        finally:
            self._saving = False
        if trainer.is_global_zero and not isinstance(trainer.strategy.checkpoint_io, DurableIO):
            rotate(self.folder)  # somebody else's has written it by now
        if wait:
            self.wait()
            trainer.strategy.barrier()
        self._saved_at, self._saved_when = trainer.global_step, monotonic()

    def wait(self) -> None:
        """Waits until what was saved is durable; raises UserError if it cannot be written. Only rank 0 has to wait."""
        self._writer.wait()

    def finish(self, trainer: Trainer, *, keep: bool) -> None:
        """Removes the checkpoints of a finished run; with ``keep``, all but the newest."""
        self.wait()
        if trainer.is_global_zero:
            self.folder.previous_checkpoint.unlink(missing_ok=True)
            if not keep:
                self.folder.checkpoint.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # it does not exist, or holds damaged checkpoints
                    self.folder.checkpoint.parent.rmdir()

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Waits until what was saved is durable; after a failure, says only in the log that it cannot be written."""
        try:
            self.wait()
        except UserError as error:
            if not failed:
                raise
            log.warning(str(error))

    def _due(self) -> bool:
        """Whether it is time to save. A disk that is slower than that delays the next checkpoint, and not training."""
        minutes = self.every_minutes
        return minutes is not None and monotonic() - self._saved_when >= 60 * minutes and not self._writer.busy

    # Finding --------------------------------------------------------------------------------------------------------

    def newest(self) -> Path | None:
        """The newest whole checkpoint to resume from; see :func:`~lnsub.training.checkpoint_files.newest_of`."""
        return newest_of(self.folder)

    @contextlib.contextmanager
    def resuming(self, path: Path, module: SubnetModule) -> Iterator[None]:
        """Explains what keeps a checkpoint that is whole from being used by the fit inside.

        Args:
            path: what :meth:`newest` found.
            module: the model, before its trainer has it.

        Raises:
            UserError: it is another model's, or its state is not that of such a fit.
        """
        weights = read_checkpoint(path, thoroughly=False)["state_dict"]
        if why := misfit(weights, module):
            raise UserError(
                f"{path} is of a run with another model: {why}. Use the same base model again, or another --output."
            )
        module.subnet.vocabulary.want_those_of(weights, "model.")
        self._restoring = True
        try:
            with explaining(path, lambda: self._restoring):
                yield
        finally:
            self._restoring = False

    # What Lightning calls -------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Disables Lightning's signal handlers, and refuses a checkpoint that Lightning would load on its own."""
        if stage != "fit":
            return
        disable_signal_handlers(trainer)
        refuse_others(self.folder)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and removes rows from ``metrics.csv`` that are newer than the checkpoint."""
        self._started = perf_counter()
        self._seconds_before = self._resumed["seconds"] if self._resumed else 0.0
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger) and self._rows is not None:
                logger.keep_rows(self._rows)
        self._rows = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the state that Lightning does not save; stops if a signal has arrived."""
        state, self._resumed = self._resumed, None
        between, self._between = self._between, False
        self._step = self._saved_at = trainer.global_step
        self._saved_when = monotonic()
        if between:
            start_new_epoch(trainer)
        if state is not None:
            restore_fit(state, trainer, pl_module)
        self._restoring = False
        self._vote.open(trainer)
        self._vote.cast(self._due)
        if signum := self._vote.count().stop:
            self.wait()  # for the checkpoint between two rounds
            raise Preempted(signum, "stopped before the first step, so nothing was lost")
        self._vote.cast(self._due)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After an optimizer step: saves when that is due, and stops once a rank has voted to."""
        if trainer.global_step == self._step:
            return  # still accumulating gradients
        self._step = trainer.global_step
        self._writer.check()
        voted = self._vote.count()
        due = self.every_n_steps is not None and self._step - self._saved_at >= self.every_n_steps
        if (voted.stop or voted.save or due) and is_savable(trainer):
            self.save(trainer, wait=voted.stop is not None)
            if voted.stop:
                raise Preempted(voted.stop, f"saved at step {self._step}")
        self._vote.cast(self._due)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the last vote; a signal in it is still pending when the next fit starts."""
        self._vote.count()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the vote of this fit."""
        if stage == "fit":
            self._vote.close()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the state that Lightning does not save. A collective operation."""
        if not self._saving:
            return
        checkpoint["lnsub"] = state_of_fit(trainer, pl_module, self.seconds)
        if trainer.training:
            correct_progress(checkpoint["loops"]["fit_loop"], validation_is_due(trainer))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Checks the state, and keeps it until the fit has been set up.

        Raises:
            UserError: the run was started from another base model or ticket, or another number of processes would
                resume it in the middle of an epoch.
        """
        if lacking := missing_progress(trainer, checkpoint["loops"]):
            raise KeyError(f"no {min(lacking)} in the state of its loops")
        state = checkpoint.get("lnsub")
        self._between = state is None or state["position"] is None
        if state is None:  # written by a version that saved only between rounds
            self._rows = None
            return
        for what, checksum in started_from(pl_module).items():
            if state["begun_with"][what] != checksum:
                raise UserError(
                    f"{self.folder.path} was started from another {what}: its weights differ. Use the same one, "
                    "or another --output."
                )
        processes = len(state["random"])
        if state["position"] is not None and processes != trainer.world_size:
            raise UserError(
                f"{self.folder.path} was interrupted mid-epoch on {processes} processes, so it cannot be resumed on "
                f"{trainer.world_size}: resume it on {processes}, with --checkpoint_every_minutes=null to be able to "
                "change the number between rounds."
            )
        self._resumed = state
        self._rows = state["rows"]
