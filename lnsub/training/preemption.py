"""Preemption: all ranks stop together at the end of one step, save, and are queued again.

What a signal asks of a run is noted by :mod:`lnsub.common.signals`; here the ranks agree on it and act.
"""

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common import signals as interrupts
from lnsub.common.errors import UserError
from lnsub.common.signals import Preempted
from lnsub.training.checkpoints import Checkpoints


class Preemption(Callback):
    """Stops a fit on all ranks at the end of the same optimizer step, once a signal asked any of them to.

    The ranks agree without waiting for the device or for one another: at the end of each optimizer step every rank
    starts an all-reduce of its own flag between the hosts (gloo, on the CPU), and looks at the result at the end of the
    next step, when it has long arrived. All see the same result at the same step. One process just looks at its flag.

    A signal between two fits, while a round is pruned, or during validation waits until the next fit or step begins.

    Lightning's own handlers are switched off: one saves in the handler, which hangs under DDP, another sends a
    collective operation from it, and its training loop reads a broadcast flag back from the device at each step.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._vote: dist.Work | None = None
        self._step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the signals from Lightning, and looks for a checkpoint that it would load by itself."""
        trainer._signal_connector.register_signal_handlers = _nothing
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing
        other = next(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"), None)
        if other is not None:
            raise UserError(f"{other} is not lnsub's, and under SLURM it would be loaded instead: move it away.")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops before the first step if a signal has come; what there is to go on from is on the disk already."""
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=_timeout(trainer))
        self._step = trainer.global_step
        self._start_vote()
        if signum := self._outcome():
            raise Preempted(signum, "before the first step, so nothing was lost")
        self._start_vote()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Looks at the vote of the last step; saves and stops, or starts the vote of this step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        signum = self._outcome()
        checkpoints = next((c for c in trainer.callbacks if isinstance(c, Checkpoints)), None)
        if signum is None or (checkpoints is not None and not checkpoints.savable(trainer)):
            self._start_vote()  # once noted, a signal is in every later vote too
            return
        if checkpoints is None:
            raise Preempted(signum, "what is not recorded yet begins anew")
        checkpoints.save(trainer)
        raise Preempted(signum, f"saved at step {trainer.global_step}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the last vote; a signal in it is still pending when the next fit starts."""
        self._outcome()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the group; each fit opens its own."""
        if self._group is not None and stage == "fit":
            dist.destroy_process_group(self._group)
            self._group = None

    def _start_vote(self) -> None:
        self._flag.fill_(int(interrupts.pending() or 0))
        if self._group is not None:
            self._vote = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def _outcome(self) -> signal.Signals | None:
        """The signal that some rank had noted when it started its last vote."""
        if self._vote is not None:
            self._vote.wait()
            self._vote = None
        number = int(self._flag)
        return signal.Signals(number) if number else None


def leave(trainer: Trainer | None, stop: Preempted) -> None:
    """Has SLURM queue the job of a stopped fit again, and lets no rank go before that is done.

    Args:
        trainer: of the fit; None where there was none yet.
        stop: what stopped it; it learns what comes next.
    """
    if rank_zero_only.rank == 0:
        stop.then = interrupts.requeue() or stop.then
    if trainer is not None:
        # Where one task of a job ends with an error, `srun --kill-on-bad-exit` ends the others.
        trainer.strategy.barrier()


def _timeout(trainer: Trainer) -> timedelta | None:
    """How long the ranks wait for one another, as the strategy has it."""
    return getattr(trainer.strategy, "_timeout", None)


def _nothing() -> None:
    """In place of what Lightning would do."""
