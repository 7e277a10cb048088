"""The processes of one run (its ranks): that they agree, and that none waits for a dead one forever.

A rank that dies shows in one of three ways. The others lose touch with it in a collective operation and get an error
(gloo, at once); or they wait until their time is over (NCCL, or a rank that only hangs); or, where Lightning started
them, the process that did so sees it end. Each way the run stops with a sentence. Under SLURM,
``srun --kill-on-bad-exit`` ends the other tasks too.
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
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from torch import Tensor

from lnsub.common.errors import RunError
from lnsub.common.locks import claimed
from lnsub.common.signals import EXIT_STATUS
from lnsub.training.lightning_internals import rank_timeout, set_rank_timeout, watch_launches

RANK_TIMEOUT = 30.0
"""Minutes that a rank waits for the others, unless told otherwise; rank 0 may tokenise data meanwhile."""

_GOOD = "What is saved is good, and the same command resumes from there."
# What gloo, NCCL and torch's store write. A time-out alone may be of a disk, of the Hub or of W&B.
_LOST = re.compile(r"gloo/|NCCL|ProcessGroup|TCPStore|recvValue failed")
_TIME_OVER = re.compile(r"[Tt]imed? ?out|[Tt]imeout")
_POLL = 0.5  # seconds
_GRACE = 20.0  # seconds that a process gets to say itself why it stops, once another of its run has ended badly

_children: list[Popen[Any]] = []
"""The ranks that this process has started."""


def set_up_ranks(trainer: Trainer, minutes: float) -> None:
    """Has a trainer's ranks give up after some time, and has the process that starts them watch them.

    Args:
        trainer: one that has not run yet.
        minutes: how long a rank waits for the others.
    """
    set_rank_timeout(trainer.strategy, timedelta(minutes=minutes))
    watch_launches(trainer.strategy, _start_watching, lambda parent: _in_background(_watch_parent, parent))


def check_agreement(trainer: Trainer, checksum: str) -> None:
    """Stops a run whose ranks hold different weights, and so selected different masks; all ranks call it together.

    Args:
        trainer: the run's.
        checksum: of this rank's mask.

    Raises:
        RunError: on every rank: it names those that differ from the most.
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
            f"{who} of {trainer.world_size} selected another mask than the others: their weights differ, so this run "
            "stops. The tickets and results on the disk are good; start it again, and it resumes from the last "
            "checkpoint."
        )


def relative_count(count: Tensor) -> Tensor:
    """This rank's count over the mean of all ranks' counts, without waiting for the device; all ranks call it together.

    Args:
        count: a number that each rank has, a tensor without dimensions.
    """
    total = count.clone()
    dist.all_reduce(total)
    return count * dist.get_world_size() / total


@contextmanager
def claimed_by_run(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claims a folder once for all ranks of a run: the first one holds it. See :func:`lnsub.common.locks.claimed`."""
    if rank_zero_only.rank > 0:
        yield True
        return
    with claimed(folder, wait=wait) as ours:
        yield ours


@contextmanager
def detecting_lost_ranks(trainer: Trainer) -> Iterator[None]:
    """Says in a sentence that another rank is gone, where an error inside comes from that.

    Raises:
        RunError: in place of the error.
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
            what = f"Rank {trainer.global_rank} waited for another rank in vain ({waited}), so this run stops."
        else:
            what = f"Rank {trainer.global_rank} lost touch with another rank, which has ended, so this run stops."
        for child in _children:  # one that hangs would stay for ever
            child.kill()
        raise RunError(f"{what} {_GOOD}") from error


def _dead_rank(seconds: float = 0.0) -> str | None:
    """Says which of the ranks that this process started has ended badly, waiting a little for one to do so."""
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
    _end(f"{dead}, so this run stops. {_GOOD}")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    _end(f"The process that started this rank has ended, so it ends too. {_GOOD}")


def _end(sentence: str) -> None:
    """Ends this process if it does not by itself: it may wait for the dead one in a collective operation."""
    time.sleep(_GRACE)
    sys.stderr.write(f"lnsub: error: {sentence}\n")
    sys.stderr.flush()
    for child in _children:
        child.kill()
    os._exit(1)


def gathered(trainer: Trainer, value: Any) -> list[Any]:
    """The values of all ranks."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(values, value)
    return values
