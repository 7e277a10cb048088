"""Folders that one process at a time may work in."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = ".lock"
"""The file, in the folder, that the lock is on. It stays there; only the lock on it counts."""


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Keeps other processes off a folder.

    A claim ends with the process, however that ends, as the kernel holds it (on NFS the server, for a node that is lost
    until its lease has run out). It is for one process and not counted: do not claim a folder again inside a claim of
    it. On a file system without locks every claim succeeds.

    Args:
        folder: made where it is missing.
        wait: wait until another process lets go of it.

    Yields:
        Whether the folder is ours; False where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("a") as file:
        ours = True
        try:
            # A POSIX lock: unlike flock's, it works over NFS, and it is not passed on to a data loader's worker that
            # outlives a killed run.
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            ours = False
        except OSError:
            pass
        yield ours
