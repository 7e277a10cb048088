"""Files that are whole or not there: written under another name, on the disk before they get their own.

What a full disk or a crash interrupts leaves the earlier file as it was and no part of the new one.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lnsub.common.errors import UserError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "files may not grow so large here",
}


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to; at the end it is on the disk, and after a failure it is gone.

    Raises:
        UserError: it cannot be written: the disk is full, say.
    """
    with write_errors(path), _synced(path) as file:
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to, which takes the place of ``path`` once it is whole and on the disk.

    The folder is made where it is missing. What a killed process leaves behind is named ``.<name>.<...>.partial``.

    Raises:
        UserError: it cannot be written. What was at ``path`` is still there.
    """
    # Of this process alone, as another may write the same file. Not a mode-0600 file of `tempfile`: it has the
    # permissions that the user's umask gives.
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    with write_errors(path):
        try:
            with _synced(part) as file:
                yield file
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


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
    with write_errors(path), path.open("ab+", buffering=0) as file:
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
def write_errors(path: Path) -> Iterator[None]:
    """Turns what keeps a file from being written into a sentence that names it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError, raised while it handles the OSError.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        if cause.errno in _FULL:
            raise UserError(
                f"Cannot write {path}: {_FULL[cause.errno]}. Make room, then start the same command again: what was "
                "written before is still good."
            ) from error
        raise UserError(f"Cannot write {path}: {cause.strerror or cause}.") from error
