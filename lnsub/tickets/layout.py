"""The layout of a safetensors file (https://github.com/huggingface/safetensors#format), read within bounds.

A file of the package safetensors is opened by its name for whatever is read of it, and with very many tensors it takes
minutes. Here a file is opened once, so that all of what is read is of the same file even while another replaces it, and
nothing in its header can take more time or memory than the bounds below.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lnsub.common.plain_data import UnreadableError, parse_json

MOST_TENSORS = 2**16
"""The most tensors of a file; the largest mixture-of-experts models have about 45,000 matrices."""

LONGEST_HEADER = 2**24
"""The most bytes of a header: names, places and shapes of so many matrices take less than 200 each."""

LONGEST_NAME = 1000
"""The most characters of a tensor's name, which is a path through a model's modules."""


class LayoutError(ValueError):
    """A file is not in this format; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Tensor:
    """A tensor's type and shape, and its first byte and the one after its last, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Layout:
    """What a file's header says.

    Attributes:
        metadata: its free text by key.
        tensors: where each tensor is, by name, in name order.
        start: where the header ends.
        size: how many bytes the tensors have together.
    """

    metadata: dict[str, str]
    tensors: dict[str, Tensor]
    start: int
    size: int


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file.

    Raises:
        LayoutError: it is something else, of which a FIFO or a device might be read without end.
        OSError: it is not there, or cannot be read.
    """
    try:
        # A FIFO is not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise LayoutError("there is a null character in its name") from error
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise LayoutError("it is not a regular file")
        with open(handle, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def read_layout(file: BinaryIO) -> Layout:
    """Reads a file's header.

    Raises:
        LayoutError: it is not in the format, or goes beyond the bounds above.
    """
    whole = os.fstat(file.fileno()).st_size
    length = int.from_bytes(_read(file, 0, 8), "little")
    if length > LONGEST_HEADER:
        raise LayoutError(f"its header would have {length:,} bytes, more than the {LONGEST_HEADER:,} that are read")
    try:
        header = parse_json(_read(file, 8, length).decode("utf-8"))
    except (UnreadableError, UnicodeDecodeError) as error:
        raise LayoutError("its header is no JSON within bounds") from error
    if not isinstance(header, dict):
        raise LayoutError("its header is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise LayoutError("its metadata is not text by key")
    if len(header) > MOST_TENSORS:
        raise LayoutError(f"it has {len(header):,} tensors, more than the {MOST_TENSORS:,} that are read")
    tensors = {name: _tensor(name, header[name]) for name in sorted(header)}
    start = 8 + length
    _check_places(tensors, whole - start)
    return Layout(metadata, tensors, start, whole - start)


def read_tensors(file: BinaryIO, layout: Layout) -> dict[str, np.ndarray]:
    """Reads all tensors' bytes into memory; returns them by name, in name order, as parts of one array.

    Raises:
        LayoutError: the file is shorter than it was, or memory does not suffice.
    """
    try:
        data = np.empty(layout.size, np.uint8)
    except MemoryError as error:
        raise LayoutError(f"its {layout.size:,} bytes do not fit into memory") from error
    file.seek(layout.start)
    done = 0
    while done < layout.size:
        count = file.readinto(data[done:].data)  # type: ignore[attr-defined]
        if not count:
            raise LayoutError("it has been cut off while it was read")
        done += count
    return {name: data[tensor.start : tensor.end] for name, tensor in layout.tensors.items()}


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    found = file.read(count)
    if len(found) < count:
        raise LayoutError("it ends within its header")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    """Reads what a header says of a tensor."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise LayoutError(f"a tensor's name, {name[:40]!r}, is empty, too long or cannot be printed")
    if not isinstance(entry, dict):
        raise LayoutError(f"of {name} it does not say where that is")
    dtype: Any = entry.get("dtype")
    shape, place = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if not isinstance(dtype, str) or not dtype.isalnum() or len(dtype) > 20:
        raise LayoutError(f"{name} has no type")
    if shape is None or place is None or len(place) != 2:
        raise LayoutError(f"{name} has no shape or no place")
    return Tensor(dtype, shape, place[0], place[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    """Reads a list of numbers that count something; None where it is something else."""
    if isinstance(value, list) and all(type(number) is int and number >= 0 for number in value):
        return tuple(value)
    return None


def _check_places(tensors: dict[str, Tensor], size: int) -> None:
    """Refuses tensors that do not lie one after another from the end of the header to that of the file."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != end or tensor.end < tensor.start:
            raise LayoutError(f"{name} does not begin where the tensor before it ends")
        end = tensor.end
    if end != size:
        raise LayoutError(f"its tensors have {end:,} bytes, and {size:,} follow its header")
