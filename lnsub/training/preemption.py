"""Preemption: all ranks of a run agree to stop at the end of the same step, and its job is queued again.

What a signal asks of a run is noted by :mod:`lnsub.common.signals`; :class:`~lnsub.training.checkpoints.Checkpoints`
saves and stops once the ranks have agreed.
"""

import signal

import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer

from lnsub.common import signals
from lnsub.common.signals import Preempted
from lnsub.training.lightning_internals import rank_timeout


class StopVote:
    """The ranks' vote on whether to stop, once an optimizer step.

    They agree without waiting for the device or for one another: at the end of each step every rank casts its vote,
    an all-reduce of its own flag between the hosts (gloo, on the CPU), and counts it at the end of the next step, when
    the result has long arrived. All see the same result at the same step. One process just looks at its flag.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._vote: dist.Work | None = None

    def open(self, trainer: Trainer) -> None:
        """Starts the votes of a fit; all ranks call it together."""
        if trainer.world_size > 1:
            self._group = dist.new_group(backend="gloo", timeout=rank_timeout(trainer.strategy))

    def cast(self) -> None:
        """Votes to stop if a signal has asked this rank to; once noted, a signal is in every later vote too."""
        self._flag.fill_(int(signals.pending() or 0))
        if self._group is not None:
            self._vote = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)

    def count(self) -> signal.Signals | None:
        """The signal that some rank had noted when it cast its last vote."""
        if self._vote is not None:
            self._vote.wait()
            self._vote = None
        number = int(self._flag)
        return signal.Signals(number) if number else None

    def close(self) -> None:
        """Ends the votes of a fit."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None


def requeue_job(trainer: Trainer | None, stop: Preempted) -> None:
    """Has SLURM queue the job of a stopped fit again, and lets no rank end before that is done.

    Args:
        trainer: of the fit; None where there was none yet.
        stop: what stopped it; it learns what comes next.
    """
    if rank_zero_only.rank == 0:
        stop.then = signals.requeue() or stop.then
    if trainer is not None:
        # Where one task of a job ends with an error, `srun --kill-on-bad-exit` ends the others.
        trainer.strategy.barrier()
