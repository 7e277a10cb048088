"""Checkpoints from which a run is resumed bit for bit, wherever it was interrupted.

A checkpoint is taken after an optimizer step, or between rounds. Beside what Lightning keeps (weights and masks,
optimizer, schedule, gradient scaler, progress, the callbacks' state) it holds the state of every process's random
numbers, the position in the data, and how far ``metrics.csv`` was.

In a run's folder::

    checkpoints/last.ckpt          the newest
    checkpoints/previous.ckpt      the one before, for where the newest is damaged
    checkpoints/*.damaged          what could not be read and was passed over
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.errors import RunError, UserError
from lnsub.common.files import sync_folder
from lnsub.common.signals import Preempted
from lnsub.runs.folder import RunFolder
from lnsub.training.checkpoint_files import (
    DurableIO,
    explaining,
    misfit,
    newest_of,
    read_checkpoint,
    refuse_others,
)
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit_state import random_states, set_random_states, settle_buckets, started_from, train_loader
from lnsub.training.lightning_internals import (
    epoch_is_over,
    is_between_steps,
    missing_progress,
    row_to_come,
    settle_progress,
    silence_signals,
    start_new_epoch,
    validation_is_due,
)
from lnsub.training.preemption import Ballot
from lnsub.training.ranks import gathered

EVERY_N_STEPS = 1000
"""Optimizer steps between checkpoints, unless told otherwise."""


class Checkpoints(Callback):
    """Writes a run's checkpoints, stops it where a signal asks for that, and resumes it exactly.

    It is the last of the trainer's callbacks, as it saves what the others have done at a step; :meth:`attach` sees to
    that. A signal between two fits, while a round is pruned, or during validation waits until the next fit or step
    begins.

    Args:
        folder: the run's folder.
        every_n_steps: optimizer steps from one checkpoint to the next; None: only between rounds.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int | None = EVERY_N_STEPS) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self._ballot = Ballot()
        self._step = 0  # the global step after the last batch
        self._saved_at = 0  # the global step of the last checkpoint
        self._started = time.perf_counter()  # this fit, in this process
        self._seconds_before = 0.0  # of this fit, in processes that were interrupted
        self._saving = False
        self._restoring = False  # whether the state of a checkpoint is being put back
        self._between = False  # whether the fit to come is resumed from between two fits
        self._resumed: dict[str, Any] | None = None  # what is yet to be put back
        self._rows: int | None = 0  # of metrics.csv that a checkpoint vouches for; None: all that are there

    @classmethod
    def of(cls, trainer: Trainer) -> "Checkpoints":
        """The one among a trainer's callbacks."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, cls))

    def attach(self, trainer: Trainer) -> "Checkpoints":
        """Makes it the last of the trainer's callbacks, and checkpoints go to the disk directly and durably."""
        trainer.callbacks[:] = [c for c in trainer.callbacks if not isinstance(c, Checkpoints)] + [self]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = DurableIO()
        return self

    @property
    def seconds(self) -> float:
        """Seconds that the fit at hand has taken, before interruptions too."""
        return self._seconds_before + time.perf_counter() - self._started

    # Saving ---------------------------------------------------------------------------------------------------------

    def save(self, trainer: Trainer, *, weights_only: bool = False) -> None:
        """Writes a checkpoint; all ranks call it, between fits or where :meth:`_savable`.

        The one before stays as a fallback. A crash at any moment leaves one of them whole.

        Args:
            trainer: the run's.
            weights_only: the trained model alone, at a run's end; no run is resumed from that.

        Raises:
            UserError: it cannot be written, for example because the disk is full. The earlier ones are untouched.
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
        """Removes the checkpoints of a run that is done; with ``keep`` the newest one stays."""
        if trainer.is_global_zero:
            self.folder.previous_checkpoint.unlink(missing_ok=True)
            if not keep:
                self.folder.checkpoint.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # where there is none, or evidence of damage in it
                    self.folder.checkpoint.parent.rmdir()

    @staticmethod
    def _savable(trainer: Trainer) -> bool:
        """Whether a checkpoint taken in ``on_train_batch_end``, now, can be resumed from exactly.

        Not while gradients are accumulated, nor after the last step of a fit that is counted in steps, nor at the end
        of an epoch that is not validated. The answer is the same on all ranks.
        """
        if not is_between_steps(trainer) or trainer.global_step == trainer.max_steps:
            return False
        return validation_is_due(trainer) or not epoch_is_over(trainer)

    # Finding --------------------------------------------------------------------------------------------------------

    def newest(self) -> Path | None:
        """The newest whole checkpoint to resume from; see :func:`~lnsub.training.checkpoint_files.newest_of`."""
        return newest_of(self.folder)

    @contextlib.contextmanager
    def resuming(self, path: Path, module: LightningModule) -> Iterator[None]:
        """Explains what keeps a checkpoint that is whole from being used by the fit inside.

        Args:
            path: what :meth:`newest` found.
            module: the model, before its trainer has it.

        Raises:
            UserError: it is another model's, or its state is not that of such a fit.
        """
        if why := misfit(read_checkpoint(path, thoroughly=False)["state_dict"], module):
            raise UserError(
                f"{path} is of a run with another model: {why}. Use the same base model again, or another --output."
            )
        self._restoring = True
        try:
            with explaining(path, lambda: self._restoring):
                yield
        finally:
            self._restoring = False

    # What Lightning calls -------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the signals from Lightning, and looks for a checkpoint that it would load by itself."""
        if stage != "fit":
            return
        silence_signals(trainer)
        refuse_others(self.folder)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and takes rows that no checkpoint vouches for off ``metrics.csv``."""
        self._started = time.perf_counter()
        self._seconds_before = self._resumed["seconds"] if self._resumed else 0.0
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger) and self._rows is not None:
                logger.keep_rows(self._rows)
        self._rows = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts back, last of all, what a resumed fit needs and Lightning does not keep; stops if a signal has come."""
        state, self._resumed = self._resumed, None
        between, self._between = self._between, False
        self._step = self._saved_at = trainer.global_step
        if between:
            start_new_epoch(trainer)
        if state is not None:
            self._put_back(state, trainer, pl_module)
        self._restoring = False
        self._ballot.open(trainer)
        self._ballot.cast()
        if signum := self._ballot.count():
            raise Preempted(signum, "before the first step, so nothing was lost")
        self._ballot.cast()

    @staticmethod
    def _put_back(state: dict[str, Any], trainer: Trainer, pl_module: LightningModule) -> None:
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
        """After an optimizer step: saves every so many steps, and stops once all ranks have voted to."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        signum = self._ballot.count()
        due = self.every_n_steps is not None and self._step - self._saved_at >= self.every_n_steps
        if (signum or due) and self._savable(trainer):
            self.save(trainer)
            if signum:
                raise Preempted(signum, f"saved at step {self._step}")
        self._ballot.cast()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the last vote; a signal in it is still pending when the next fit starts."""
        self._ballot.count()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ends the votes of this fit."""
        if stage == "fit":
            self._ballot.close()

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
            "begun_with": started_from(pl_module),
            "position": train_loader(trainer).state_dict() if amid else None,
            "row": row_to_come(trainer) if amid else None,
        }
        if amid:
            settle_progress(checkpoint["loops"]["fit_loop"], validation_is_due(trainer))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps it for when the fit has been set up.

        Raises:
            UserError: the run was started from another base model or ticket, or another number of processes would
                resume it in the middle of an epoch.
            RunError: the ranks have read different files, as one is damaged.
        """
        if len(set(gathered(trainer, checkpoint["global_step"]))) > 1:
            raise RunError(
                f"The newest checkpoint in {self.folder.checkpoint.parent} is damaged, and not all ranks passed it "
                "over. It is out of the way now: start the same command again."
            )
        if lacking := missing_progress(trainer, checkpoint["loops"]):
            raise KeyError(f"no {min(lacking)} in the state of its loops")
        state = checkpoint.get("lnsub")
        self._between = state is None or state["position"] is None
        if state is None:  # of a version that saved between rounds only
            self._rows = None
            return
        for what, checksum in started_from(pl_module).items():
            if state["begun_with"][what] != checksum:
                raise UserError(
                    f"{self.folder.path} was started from another {what}: its weights differ. Use the same one again, "
                    "or another --output."
                )
        processes = len(state["random"])
        if state["position"] is not None and processes != trainer.world_size:
            raise UserError(
                f"{self.folder.path} was interrupted in the middle of an epoch on {processes} processes, so it cannot "
                f"be resumed on {trainer.world_size}: start it with {processes}, and --checkpoint_every_n_steps=null; "
                "from the beginning of the next round on, another number will do."
            )
        self._resumed = state
        self._rows = state["rows"]
