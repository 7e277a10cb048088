"""Text files as they come: packed by gzip or not, with a byte order mark or not, and in UTF-8, or refused."""

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MOST_UNPACKED = 2**27
"""The bytes that any packed file may unpack to. Beyond them, :data:`MOST_RATIO` holds."""

MOST_RATIO = 200
"""The most that a larger file may grow by when it is unpacked: text grows by 3 to 20, a file made to fill the memory
by up to 1,030."""


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, up to the bounds above."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 (closed by close)
        self._most = max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size)
        self._size = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Unpacks into ``buffer``; a ValueError where that makes too much."""
        count = self._file.readinto(buffer)
        self._size += count
        if self._size > self._most:
            raise ValueError(f"it unpacks to more than {self._most:,} bytes, which no text of its size does")
        return count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading its bytes, unpacked where the name ends in ``.gz``, after any byte order mark."""
    raw: io.RawIOBase = _Unpacked(path) if path.suffix == ".gz" else io.FileIO(path)
    with io.BufferedReader(raw, buffer_size=2**18) as file:
        if file.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
        yield file


def first_wrong_byte(path: Path) -> str | None:
    """Says which byte of a file is the first that is not UTF-8; None if all are."""
    decoder, before = codecs.getincrementaldecoder("utf-8")(), 0
    with opened(path) as file:
        while True:
            piece = file.read(2**20)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                place = before - held + error.start
                return f"byte {place:,} (counting from 0) is {error.object[error.start]:#04x}, which is not UTF-8"
            if not piece:
                return None
            before += len(piece)
