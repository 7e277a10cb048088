"""The processes of one run (its ranks): consistency checks, and detection of dead ranks.

A dead rank is detected in one of three ways: a collective operation fails on the others (gloo, at once); it times out
(NCCL, or a rank that hangs); or, if Lightning launched the ranks, the launching process sees it end. In each case the
run stops with an error message. Under SLURM, ``srun --kill-on-bad-exit`` also ends the other tasks.
"""

import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor

from lnsub.common.errors import RunError
from lnsub.common.launcher import is_first_process
from lnsub.common.locks import claimed
from lnsub.common.signals import EXIT_STATUS
from lnsub.training.lightning_internals import rank_timeout, set_rank_timeout, watch_launches

RANK_TIMEOUT = 30.0
"""Default timeout in minutes; long, because the other ranks wait while rank 0 tokenises data."""

_RESUMABLE = "The saved state is intact, and the same command resumes from it."
# In messages of gloo, NCCL and torch's store. A timeout alone may come from a disk, the Hub or W&B.
_LOST = re.compile(r"gloo/|NCCL|ProcessGroup|TCPStore|recvValue failed")
_TIME_OVER = re.compile(r"[Tt]imed? ?out|[Tt]imeout")
_POLL = 0.5  # seconds
_GRACE = 20.0  # seconds that a process has to report its own error after another rank has failed

_children: list[Popen[Any]] = []
"""The ranks that this process has launched."""


def set_up_ranks(trainer: Trainer, minutes: float) -> None:
    """Sets the timeout of a trainer's ranks, and makes the launching process watch them.

    Args:
        trainer: a trainer that has not run yet.
        minutes: how long a rank waits for the others.
    """
    set_rank_timeout(trainer.strategy, timedelta(minutes=minutes))
    watch_launches(trainer.strategy, _start_watching, lambda parent: _in_background(_watch_parent, parent))


def check_agreement(trainer: Trainer, checksum: str) -> None:
    """Stops a run whose ranks selected different masks because their weights differ. A collective operation.

    Args:
        trainer: the run's trainer.
        checksum: of this rank's mask.

    Raises:
        RunError: on every rank; it names the ranks that differ from the majority.
    """
    if trainer.world_size == 1:
        return
    found: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(found, checksum)
    common = Counter(found).most_common(1)[0][0]
    odd = [str(rank) for rank, other in enumerate(found) if other != common]
    if odd:
        who = f"Rank {odd[0]}" if len(odd) == 1 else f"Ranks {', '.join(odd[:-1])} and {odd[-1]}"
        raise RunError(
            f"{who} of {trainer.world_size} selected another mask than the others because their weights differ, so "
            f"this run stops. {_RESUMABLE}"
        )


def relative_count(count: Tensor) -> Tensor:
    """This rank's count divided by the mean over ranks, without synchronising with the device. A collective operation.

    Args:
        count: this rank's count, a tensor of shape [].
    """
    total = count.clone()
    dist.all_reduce(total)
    return count * dist.get_world_size() / total


@contextmanager
def claimed_by_run(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claims a folder once for all ranks of a run: the first one holds it. See :func:`lnsub.common.locks.claimed`."""
    if not is_first_process():
        yield True
        return
    with claimed(folder, wait=wait) as ours:
        yield ours


@contextmanager
def detecting_lost_ranks(trainer: Trainer) -> Iterator[None]:
    """Replaces errors that are caused by the loss of another rank.

    Raises:
        RunError: in place of such an error.
    """
    try:
        yield
    except RuntimeError as error:
        if trainer.world_size == 1 or not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
            raise
        if _children and (dead := _dead_rank(4 * _POLL)):
            what = f"{dead}, so this run stops."
        elif _TIME_OVER.search(str(error)):
            waited = rank_timeout(trainer.strategy)
            what = f"Rank {trainer.global_rank} timed out waiting for another rank ({waited}), so this run stops."
        else:
            what = f"Rank {trainer.global_rank} lost its connection to another rank, so this run stops."
        for child in _children:  # a hanging one would never end
            child.kill()
        raise RunError(f"{what} {_RESUMABLE}") from error


def _dead_rank(seconds: float = 0.0) -> str | None:
    """Describes a launched rank that has failed, waiting up to ``seconds`` for one; None if there is none."""
    end = time.monotonic() + seconds
    while True:
        for child in _children:
            status = child.poll()
            if status is not None and status not in {0, EXIT_STATUS}:
                how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                rank = int(os.environ.get("NODE_RANK", "0")) * (len(_children) + 1) + 1 + _children.index(child)
                return f"Rank {rank} (process {child.pid}) {how}"
        if time.monotonic() >= end:
            return None
        time.sleep(_POLL)


def _start_watching(children: list[Popen[Any]]) -> None:
    _children[:] = children
    _in_background(_watch_children)


def _in_background(watch: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=watch, args=args, daemon=True).start()


def _watch_children() -> None:
    while (dead := _dead_rank()) is None:
        if all(child.poll() is not None for child in _children):
            return
        time.sleep(_POLL)
    _exit_after_grace(f"{dead}, so this run stops. {_RESUMABLE}")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    _exit_after_grace(f"The process that launched this rank has ended, so this run stops. {_RESUMABLE}")


def _exit_after_grace(sentence: str) -> None:
    """Ends this process unless it ends first: it may be waiting for the dead rank in a collective operation."""
    time.sleep(_GRACE)
    sys.stderr.write(f"lnsub: error: {sentence}\n")
    sys.stderr.flush()
    for child in _children:
        child.kill()
    os._exit(1)


def gathered(trainer: Trainer, value: Any) -> list[Any]:
    """The values of all ranks, in rank order. A collective operation."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(values, value)
    return values
