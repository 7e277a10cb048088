"""Files that are whole or not there: written under another name, on the disk before they get their own.

What a full disk or a crash interrupts leaves the earlier file as it was and no part of the new one.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lnsub.errors import UserError

# Too large is what a limit on file sizes gives, some quotas among them.
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "files may not be so large",
}


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to; at the end it is on the disk, and after a failure it is gone.

    Raises:
        UserError: it cannot be written: the disk is full, say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with complaining(path):
        try:
            with path.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to, which takes the place of ``path`` once it is whole and on the disk.

    Raises:
        UserError: it cannot be written. What was at ``path`` is still there.
    """
    # Another process may write the same file: the name is its own.
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(part) as file:
        yield file
    part.replace(path)


def append_lines(path: Path, lines: bytes, *, sync: bool = True) -> None:
    """Adds whole lines to a file.

    A last line that a crash left unfinished is closed first, so that it spoils no other.

    Args:
        path: the file; made where it is missing.
        lines: each with its end.
        sync: wait until they are on the disk: what is lost with the machine otherwise is not lost with the process.

    Raises:
        UserError: they cannot be written. The file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with complaining(path), path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        try:
            written = 0
            while written < len(lines):  # a nearly full disk takes a part, and refuses the next
                written += file.write(lines[written:])
            if sync:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


@contextmanager
def complaining(path: Path) -> Iterator[None]:
    """Turns what keeps a file from being written into a sentence that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # torch reports a failed write as a RuntimeError, raised while it handles the OSError.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        reason = _FULL.get(cause.errno or 0)
        advice = (
            ": make room and start the same command again; what was written before is still good." if reason else "."
        )
        raise UserError(f"Cannot write {path}: {reason or cause.strerror or cause}{advice}") from error
