"""Locks on folders."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lnsub.common.files import make_folder, write_errors
from lnsub.common.signals import Preempted, pending

LOCK_NAME = ".lock"
"""The lock file in the folder. It is never removed; its presence means nothing without a lock on it."""


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claims a folder for this process.

    The kernel releases a claim when the process ends for any reason (on NFS the server does; for a lost node, once its
    lease has expired). Claims do not nest: do not claim a folder again inside a claim of it. On a file system without
    locks every claim succeeds.

    Args:
        folder: created if missing.
        wait: wait until another process releases it, or a signal asks this one to stop.

    Yields:
        Whether the claim succeeded; False if the folder is in use by another process.

    Raises:
        UserError: the folder or its lock cannot be made, for example because the disk is full.
        Preempted: a signal arrived while waiting.
    """
    make_folder(folder)
    with write_errors(folder / LOCK_NAME):
        lock = (folder / LOCK_NAME).open("a")
    with lock as file:
        while not (ours := _locked(file)) and wait:
            if signum := pending():
                raise Preempted(signum, f"waiting for {folder}, which is in use by another process")
            time.sleep(1)
        yield ours


def _locked(file: IO[str]) -> bool:
    try:
        # A POSIX lock, which unlike flock works over NFS and is not inherited by data loader workers, which may
        # outlive a killed run.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
