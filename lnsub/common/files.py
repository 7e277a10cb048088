"""Atomic writes: to a temporary name, synced to disk, then renamed.

A write interrupted by a full disk or a crash leaves the earlier file unchanged and nothing of the new one.
"""

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lnsub.common.errors import UserError

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "the file would exceed the size limit",
}


def check_output(path: Path, what: str, is_own: Callable[[Path], bool]) -> None:
    """Refuses to write where anything else is than an earlier output of the same kind; call it before the work.

    Args:
        path: the file that is to be written. There need not be one yet, and an empty one holds nothing to lose.
        what: what is written, as the message should call it: ``"a report"``.
        is_own: whether an existing file is of that kind.

    Raises:
        UserError: it is a folder, a device, a FIFO or a socket, or a file of another kind.
    """
    check_regular(path)
    if path.exists() and path.stat().st_size and not is_own(path):
        raise UserError(f"{path} exists and is not {what}, so it is not replaced: name another file, or remove it.")


def check_regular(path: Path) -> None:
    """Refuses a path that something else than a regular file is at; raises UserError."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device, a FIFO or a socket"
        raise UserError(f"Cannot write {path}: it is {kind}. Name a file.")


def starts_with(path: Path, count: int = 4096) -> bytes:
    """Returns the first bytes of a file, of which its kind can be told."""
    with path.open("rb") as file:
        return file.read(count)


def check_folder(folder: Path) -> None:
    """Refuses a folder that something else is in the place of, or in the way to; call it before the work.

    Raises:
        UserError: a file, or a link to nothing, is there.
    """
    # pathlib's functions of these names may raise.
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112
            what = "a file" if os.path.exists(path) else "a link to nothing"  # noqa: PTH110
            raise UserError(f"Cannot make the folder {folder}: {path} is {what}.")


def make_folder(folder: Path) -> None:
    """Creates a folder, and its parents, where there is none.

    Raises:
        UserError: something else is in its place, such as a file or a link to nothing, or it cannot be created.
    """
    check_folder(folder)
    try:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"Cannot make the folder {str(folder)!r}: {error}.") from error


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing; it is synced to disk at the end, and removed after a failure.

    Raises:
        UserError: it cannot be written, for example because the disk is full.
    """
    with write_errors(path), _synced(path) as file:
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing, which replaces ``path`` once it is complete and synced to disk.

    A missing folder is created. A killed process leaves behind a file named ``.<name>.<...>.partial``.

    Raises:
        UserError: it cannot be written, or a folder, a device or a FIFO is there. The file at ``path`` is unchanged.
    """
    check_regular(path)
    # The name is unique, because another process may write the same file. `tempfile` would create a file that only its
    # owner may read, ignoring the user's umask.
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    with write_errors(path):
        try:
            with _synced(part) as file:
                yield file
            part.replace(path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):  # there need not even be a folder
                part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Syncs a folder's entries to disk, for example after a rename, if the file system supports it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    make_folder(path.parent)
    try:
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def append_lines(path: Path, lines: bytes, *, sync: bool = True) -> None:
    """Appends complete lines to a file.

    If a crash has left the last line unfinished, a line break is added first.

    Args:
        path: the file; created if missing.
        lines: complete lines, each with its line break.
        sync: sync to disk. Otherwise the lines survive the process, but not a failure of the machine.

    Raises:
        UserError: they cannot be written, or it is a folder, a device or a FIFO. The file is unchanged.
    """
    check_regular(path)
    make_folder(path.parent)
    with write_errors(path), path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                lines = b"\n" + lines
        try:
            written = 0
            while written < len(lines):  # a nearly full disk accepts a part before it fails
                written += file.write(lines[written:])
            if sync:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Converts errors of writing a file into a :class:`UserError` that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number is None:
            raise
        if number in _FULL:
            raise UserError(
                f"Cannot write {path}: {_FULL[number]}. Free some space and run the same command again: all "
                "earlier files are intact."
            ) from error
        raise UserError(f"Cannot write {path}: {os.strerror(number)}.") from error


def _error_number(error: BaseException) -> int | None:
    """The number of the system's error that an error is, or comes from; None where it has none.

    torch and pyarrow raise errors of their own while they handle an OSError; libraries in Rust have only its text.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        if found := re.search(r"\(os error (\d+)\)", str(cause)):
            return int(found[1])
        cause = cause.__cause__ or cause.__context__
    return None
