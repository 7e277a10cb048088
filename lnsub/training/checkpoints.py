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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.errors import UserError
from lnsub.common.files import sync_folder
from lnsub.common.signals import Preempted
from lnsub.runs.folder import RunFolder
from lnsub.training.callbacks import log_row
from lnsub.training.checkpoint_files import (
    DurableIO,
    explaining,
    misfit,
    newest_of,
    read_checkpoint,
    refuse_others,
)
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit_state import random_states, rebuild_ddp_buckets, set_random_states, started_from, train_loader
from lnsub.training.lightning_internals import (
    correct_progress,
    disable_signal_handlers,
    epoch_is_over,
    is_between_steps,
    missing_progress,
    pending_log_row,
    start_new_epoch,
    validation_is_due,
)
from lnsub.training.module import SubnetModule
from lnsub.training.other_callbacks import check_callbacks, drop_default_checkpoints
from lnsub.training.preemption import StopVote
from lnsub.training.ranks import gathered

EVERY_N_STEPS = 1000
"""Default number of optimizer steps between checkpoints."""


class Checkpoints(Callback):
    """Writes a run's checkpoints, stops the run when a signal asks for it, and resumes it exactly.

    It must be the trainer's last callback, because it saves what the others have done at a step; :meth:`attach`
    ensures that. A signal that arrives between two fits, during pruning or during validation is handled at the next
    fit or step.

    Args:
        folder: the run's folder.
        every_n_steps: optimizer steps between checkpoints; None: only between rounds.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int | None = EVERY_N_STEPS) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self._stop_vote = StopVote()
        self._step = 0  # the global step after the last batch
        self._saved_at = 0  # the global step of the last checkpoint
        self._started = time.perf_counter()  # this fit, in this process
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
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = DurableIO()
        return self

    @property
    def seconds(self) -> float:
        """Duration of the current fit in seconds, including the time before interruptions."""
        return self._seconds_before + time.perf_counter() - self._started

    # Saving ---------------------------------------------------------------------------------------------------------

    def save(self, trainer: Trainer, *, weights_only: bool = False) -> None:
        """Writes a checkpoint. Every rank must call it, between fits or when :meth:`_savable` is true.

        The previous one is kept as a fallback. A crash at any moment leaves at least one of them intact.

        Args:
            trainer: the run's trainer.
            weights_only: save only the trained model, at the end of a run; such a checkpoint cannot be resumed from.

        Raises:
            UserError: it cannot be written, for example because the disk is full. Earlier ones are untouched.
        """
        part = self.folder.checkpoint.with_suffix(".partial")
        self._saving = True
        try:
            trainer.save_checkpoint(part, weights_only=weights_only)
        finally:
            self._saving = False
        if trainer.is_global_zero:
            if self.folder.checkpoint.exists():
                self.folder.checkpoint.replace(self.folder.previous_checkpoint)
            part.replace(self.folder.checkpoint)
            sync_folder(self.folder.checkpoint.parent)
        trainer.strategy.barrier()
        self._saved_at = trainer.global_step

    def finish(self, trainer: Trainer, *, keep: bool) -> None:
        """Removes the checkpoints of a finished run; with ``keep``, all but the newest."""
        if trainer.is_global_zero:
            self.folder.previous_checkpoint.unlink(missing_ok=True)
            if not keep:
                self.folder.checkpoint.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # it does not exist, or holds damaged checkpoints
                    self.folder.checkpoint.parent.rmdir()

    @staticmethod
    def _savable(trainer: Trainer) -> bool:
        """Whether a checkpoint taken now, in ``on_train_batch_end``, can be resumed from exactly.

        It cannot while gradients are accumulated, after the last step of a fit limited by steps, or at the end of an
        epoch without validation. The answer is the same on all ranks.
        """
        if not is_between_steps(trainer) or trainer.global_step == trainer.max_steps:
            return False
        return validation_is_due(trainer) or not epoch_is_over(trainer)

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
        self._started = time.perf_counter()
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
        if between:
            start_new_epoch(trainer)
        if state is not None:
            self._restore(state, trainer, pl_module)
        self._restoring = False
        self._stop_vote.open(trainer)
        self._stop_vote.cast()
        if signum := self._stop_vote.count():
            raise Preempted(signum, "stopped before the first step, so nothing was lost")
        self._stop_vote.cast()

    @staticmethod
    def _restore(state: dict[str, Any], trainer: Trainer, pl_module: LightningModule) -> None:
        if state["position"] is not None:
            rebuild_ddp_buckets(trainer, pl_module)
            # Lightning does this when it creates the loader, but the schedule's length needs the loader earlier.
            train_loader(trainer).load_state_dict(state["position"])
        set_random_states(trainer, state["random"][trainer.global_rank % len(state["random"])])
        if state["row"] is not None:
            log_row(trainer, *state["row"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After an optimizer step: saves every ``every_n_steps`` steps, and stops once a rank has voted to."""
        if trainer.global_step == self._step:
            return  # still accumulating gradients
        self._step = trainer.global_step
        signum = self._stop_vote.count()
        due = self.every_n_steps is not None and self._step - self._saved_at >= self.every_n_steps
        if (signum or due) and self._savable(trainer):
            self.save(trainer)
            if signum:
                raise Preempted(signum, f"saved at step {self._step}")
        self._stop_vote.cast()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Completes the last vote; a signal in it is still pending when the next fit starts."""
        self._stop_vote.count()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the vote of this fit."""
        if stage == "fit":
            self._stop_vote.close()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the state that Lightning does not save. A collective operation."""
        if not self._saving:
            return
        in_fit = trainer.training
        csv = next((logger for logger in trainer.loggers if isinstance(logger, RunCSVLogger)), None)
        checkpoint["lnsub"] = {
            "random": gathered(trainer, random_states(trainer)),
            "rows": csv.rows if csv and trainer.is_global_zero else None,
            "seconds": self.seconds if in_fit else 0.0,
            "begun_with": started_from(pl_module),
            "position": train_loader(trainer).state_dict() if in_fit else None,
            "row": pending_log_row(trainer) if in_fit else None,
        }
        if in_fit:
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
                f"{trainer.world_size}: resume it on {processes}, with --checkpoint_every_n_steps=null to be able to "
                "change the number between rounds."
            )
        self._resumed = state
        self._rows = state["rows"]
