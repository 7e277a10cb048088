"""Preemption: all ranks of a run agree to stop, or to save, at the end of the same step, and the job is requeued.

:mod:`lnsub.common.signals` records the signals; :class:`~lnsub.training.checkpoints.Checkpoints` saves and stops once
the ranks have agreed.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer

from lnsub.common import signals
from lnsub.common.signals import Preempted
from lnsub.training.lightning_internals import rank_timeout


@dataclass(frozen=True)
class Outcome:
    """What the ranks have agreed on.

    Attributes:
        stop: the signal that some rank had received; None: to go on.
        save: whether rank 0 found that a checkpoint is due.
    """

    stop: signal.Signals | None
    save: bool


class StepVote:
    """The ranks' vote on whether to stop, and whether to save, once per optimizer step.

    It waits neither for the device nor for other ranks: at the end of each step every rank casts its vote, an
    asynchronous all-reduce of two numbers on the CPU (gloo), and counts it at the end of the next step, when the result
    has long arrived. All ranks see the same result at the same step. A single process only reads its own vote.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._ballot = torch.zeros(2, dtype=torch.int64)  # the signal's number, and whether to save
        self._vote: dist.Work | None = None
        self._votes_on_saving = True

    def open(self, trainer: Trainer) -> None:
        """Sets up the vote for a fit. A collective operation."""
        self._votes_on_saving = trainer.is_global_zero
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=rank_timeout(trainer.strategy))

    def cast(self, due: Callable[[], bool]) -> None:
        """Votes to stop if this rank has received a signal; the signal stays in all later votes.

        Args:
            due: whether it is time to save. Only rank 0 is asked, as clocks differ.
        """
        self._ballot[0] = int(signals.pending() or 0)
        self._ballot[1] = int(self._votes_on_saving and due())
        if self._group is not None:
            self._vote = dist.all_reduce(self._ballot, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def count(self) -> Outcome:
        """What the last votes amount to."""
        if self._vote is not None:
            self._vote.wait()
            self._vote = None
        number, save = self._ballot.tolist()
        return Outcome(signal.Signals(number) if number else None, bool(save))

    def close(self) -> None:
        """Closes the vote of a fit."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None


def requeue_job(trainer: Trainer | None, stop: Preempted) -> None:
    """Requeues the SLURM job of a stopped fit, and keeps all ranks alive until that is done.

    Args:
        trainer: of the fit; None before the first fit.
        stop: the exception that stopped it; the outcome is added to its message.
    """
    if rank_zero_only.rank == 0:
        stop.then = signals.requeue() or stop.then
    if trainer is not None:
        # As soon as one task exits with an error, `srun --kill-on-bad-exit` ends the others.
        trainer.strategy.barrier()
