"""Folders that only one process at a time may work in."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lnsub.common.signals import Preempted, pending

LOCK_NAME = ".lock"
"""The file, in the folder, that the lock is on. It stays there; only the lock on it counts."""


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Claims a folder for this process.

    A claim ends with the process, however that ends, as the kernel holds it (on NFS the server, which releases that of
    a lost node once its lease has run out). Claims do not nest: do not claim a folder again inside a claim of it. On a
    file system without locks every claim succeeds.

    Args:
        folder: made where it is missing.
        wait: wait until another process releases it, or a signal asks this one to stop.

    Yields:
        Whether the folder is ours; False where it is in use by another process.

    Raises:
        Preempted: a signal arrived while waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a") as file:
        while not (ours := _locked(file)) and wait:
            if signum := pending():
                raise Preempted(signum, f"it was waiting for {folder}, which is in use by another process")
            time.sleep(1)
        yield ours


def _locked(file: IO[str]) -> bool:
    try:
        # A POSIX lock: unlike flock's, it works over NFS, and is not inherited by a data loader's worker that outlives
        # a killed run.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True
