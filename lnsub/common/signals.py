"""Signals that ask a run to stop: recorded when they arrive, and handled between steps, when nothing is lost.

A batch system warns a job before it takes the machine away: SLURM with the signal of ``sbatch --signal``, others with
SIGTERM. Saving inside a signal handler would not work, as the signal reaches each process of a run at a different
place, one of them in a collective operation that the others never enter. So the handler only notes the signal;
:class:`lnsub.training.checkpoints.Checkpoints` lets all processes agree on it between two steps.

Nothing here needs torch, so that a signal during the import of torch, which takes seconds, is recorded too.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lnsub.common.launcher import is_first_process

log = logging.getLogger(__name__)

EXIT_STATUS = 75
"""Exit status of an interrupted run that can be resumed: EX_TEMPFAIL of sysexits.h."""

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
"""The signals that ask a run to stop. A second SIGINT (Ctrl-C) stops it at once."""

_pending: signal.Signals | None = None


class Preempted(BaseException):
    """A signal stopped the run, on all ranks at the same step, with everything saved.

    Like ``KeyboardInterrupt`` it is not an ``Exception``: code that records failures and continues must not catch it.

    Args:
        signum: the signal.
        where: the state that was reached, for the message.
    """

    def __init__(self, signum: signal.Signals, where: str) -> None:
        super().__init__(signum, where)
        self.signum = signum
        self.where = where
        self.then = "the same command resumes the run"

    def __str__(self) -> str:
        return f"interrupted by {self.signum.name}: {self.where}; {self.then}."


def pending() -> signal.Signals | None:
    """Returns the first signal that asked this process to stop, or None."""
    return _pending


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Records the signals of :data:`SIGNALS` instead of ending the process; restores the handlers at the end.

    Inside another such block it does nothing, nor outside the main thread, where Python allows no handlers.
    """
    global _pending
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is _note:
        yield
        return
    _pending = None
    before = {signum: signal.signal(signum, _note) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _note(number: int, _: FrameType | None) -> None:
    global _pending
    if number == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if _pending is None:
        _pending = signal.Signals(number)
        if is_first_process():
            again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
            # The signal may have interrupted print or logging.
            os.write(2, f"lnsub: {_pending.name}: stopping at the end of a step{again}.\n".encode())


@contextmanager
def held_signals() -> Iterator[None]:
    """Holds the signals of :data:`SIGNALS` back from this thread, and from the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shield_data_worker(_: int) -> None:
    """Keeps a data loader's worker alive when a batch system signals every process of a job.

    The main process decides when to stop and then ends its workers, with SIGTERM if necessary: so a SIGTERM counts only
    where that process has sent it. Pass this function to the loader as ``worker_init_fn``, and start the workers inside
    :func:`held_signals`, so that no signal comes before.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)  # in threads that do not hold it back
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process once its parent asks for that by SIGTERM; a handler in Python is not told who sent a signal."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def requeue() -> str | None:
    """Asks SLURM to requeue this job, unless it is being cancelled. Call it on the first process, last of all.

    Returns:
        The outcome, for the message; None outside SLURM jobs.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return None
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    output = _scontrol("show", "job", job)[1]
    if "JobState=COMPLETING" in output and "Reason=TimeLimit" not in output:
        # Either cancelled by the user, or preempted, in which case SLURM requeues it.
        return f"SLURM is ending job {job}, so it is not requeued"
    status, output = _scontrol("requeue", job)
    if status == 0:
        return f"job {job} is requeued"
    return f"SLURM does not requeue job {job} ({output or f'exit status {status}'}): submit it again"


def _scontrol(*args: str) -> tuple[int, str]:
    """Runs scontrol; returns its exit status and its output as one line."""
    try:
        done = subprocess.run(["scontrol", *args], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, " ".join((done.stdout + done.stderr).split())
