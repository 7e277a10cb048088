"""The ticket file, written and read.

A ticket file is a ``.safetensors`` file. Each prunable parameter has one uint8 tensor under its name in the bare base
model: its mask, packed as :mod:`lnsub.tickets.packed` says. The metadata (all strings) holds ``format``, ``shapes``
(JSON), ``checksum`` (of the masks), ``metadata_checksum`` (of all other metadata) and the fields of
:class:`Provenance`. There is no pickle in it, and a file that is incomplete or was changed is refused. Tickets of
earlier versions have no ``metadata_checksum``; they are read all the same.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_json
from lnsub.common.printable import printable
from lnsub.tickets.layout import (
    LONGEST_HEADER,
    MOST_TENSORS,
    Layout,
    LayoutError,
    opened,
    read_layout,
    read_tensors,
)
from lnsub.tickets.packed import mask_problem, size_problem
from lnsub.tickets.provenance import Provenance

FORMAT = "lnsub-ticket/1"
"""What the metadata key ``format`` of a ticket file says."""

_COVER = "metadata_checksum"
_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST = 2**40  # weights along one dimension
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """What a ticket file says of itself.

    Attributes:
        provenance: where the ticket comes from.
        checksum: SHA-256 (hex) of its masks.
        shapes: its parameters' shapes, as JSON.
        covered: whether the metadata has a checksum of its own, without which a change of it goes unnoticed.
    """

    provenance: Provenance
    checksum: str
    shapes: str
    covered: bool = True


def write_file(path: Path, masks: Mapping[str, np.ndarray], header: Header) -> None:
    """Writes a ticket file, whole or not at all; its bytes depend on the arguments alone.

    Args:
        path: the file; its folder is made where it is missing.
        masks: packed masks by parameter name, in name order.
        header: what goes with them.

    Raises:
        UserError: it cannot be written. What was at ``path`` is still there.
    """
    metadata = header.provenance.to_metadata() | {
        "format": FORMAT,
        "shapes": header.shapes,
        "checksum": header.checksum,
    }
    metadata[_COVER] = _metadata_checksum(metadata)
    # safetensors' own writer puts metadata in a random order, so that bytes would differ.
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, mask in masks.items():
        entries[name] = {"dtype": "U8", "shape": [mask.size], "data_offsets": [start, start + mask.size]}
        start += mask.size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(masks) > MOST_TENSORS or len(text) > LONGEST_HEADER:
        raise UserError(f"Cannot write {path}: a ticket of {len(masks):,} parameters is beyond what tickets may have.")
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for mask in masks.values():
            file.write(mask.data)


def read_header(path: str | Path) -> Header:
    """Reads what a ticket file says of itself: fast, and without a look at the masks but for their sizes.

    Raises:
        UserError: there is no such file, it is not a ticket, or a newer lnsub wrote it.
    """
    path = Path(path)
    with _opened(path) as (_, layout):
        return _checked(path, layout)[0]


def read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, ...]], Header]:
    """Reads a ticket file, opened once, and checks all of it but the checksum.

    Returns:
        The packed masks, copied to memory, so that the file may be replaced meanwhile; the shapes; and the header.

    Raises:
        UserError: as for :func:`read_header`, or the masks do not fit the shapes.
    """
    with _opened(path) as (file, layout):
        header, shapes = _checked(path, layout)
        masks = read_tensors(file, layout)
    if problem := mask_problem(masks, shapes):
        raise damaged(path, problem)
    return masks, shapes, header


def is_ticket(path: Path) -> bool:
    """Whether a file is a ticket, as far as its header tells."""
    try:
        read_header(path)
    except UserError:
        return False
    return True


def damaged(path: Path, what: str) -> UserError:
    """Makes the error for a ticket file that is not as it was written."""
    return UserError(f"ticket {path} has been changed or damaged: {what}; make it again, or fetch another copy")


def _checked(path: Path, layout: Layout) -> tuple[Header, dict[str, tuple[int, ...]]]:
    """Reads the header and the shapes of a ticket file, and holds the masks' types and sizes against them."""
    metadata = layout.metadata
    try:
        provenance = Provenance.from_metadata(metadata)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    for key in ("shapes", "checksum"):
        if key not in metadata:
            raise damaged(path, f"its metadata has no {key!r}")
    if _COVER in metadata and metadata[_COVER] != _metadata_checksum(metadata):
        raise damaged(path, "its metadata does not fit the checksum over it")
    if not _SHA256.fullmatch(metadata["checksum"]):  # which also becomes part of file names
        raise damaged(path, f"its checksum {metadata['checksum'][:40]!r} is no SHA-256")
    for name, tensor in layout.tensors.items():
        if tensor.dtype != "U8":
            raise damaged(path, f"the mask of {name} is {tensor.dtype}, not packed in bytes (U8)")
        if tensor.shape != (tensor.end - tensor.start,):
            raise damaged(
                path, f"the mask of {name} is uint8 of {len(tensor.shape)} dimensions, not a row of its bytes"
            )
    shapes = _shapes(metadata["shapes"])
    if shapes is None:
        raise damaged(path, "its 'shapes' cannot be read")
    if problem := size_problem({name: t.end - t.start for name, t in layout.tensors.items()}, shapes):
        raise damaged(path, problem)
    return Header(provenance, metadata["checksum"], metadata["shapes"], covered=_COVER in metadata), shapes


def _metadata_checksum(metadata: Mapping[str, str]) -> str:
    """SHA-256 (hex) over all metadata but itself, keys that this version does not know included."""
    others = sorted((key, value) for key, value in metadata.items() if key != _COVER)
    return hashlib.sha256(json.dumps(others).encode()).hexdigest()


def _shapes(text: str) -> dict[str, tuple[int, ...]] | None:
    """Reads the metadata's ``shapes``; None where it is not a JSON object of lists of positive whole numbers."""
    try:
        shapes = parse_json(text)
    except UnreadableError:
        return None
    if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
        return None
    return {name: tuple(shape) for name, shape in shapes.items()}


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(n) is int and 0 < n <= _LARGEST for n in shape)
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Layout]]:
    """Opens a ticket file and reads its layout, or says why it is not one that can be read here."""
    try:
        with opened(path) as file:
            layout = read_layout(file)
            written = layout.metadata.get("format", "")
            if written != FORMAT:
                if written.startswith("lnsub-ticket/"):
                    shown = printable(written[:40])
                    raise UserError(f"ticket {path} has the format {shown}, this lnsub reads {FORMAT}: update lnsub")
                raise UserError(f"{path} is a safetensors file but not a ticket: its metadata has no format {FORMAT}")
            yield file, layout
    except LayoutError as error:
        raise UserError(f"{path} is not a complete safetensors file, so it is no ticket: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"there is no ticket {path}: check the path") from error
    except OSError as error:
        raise UserError(f"cannot read the ticket {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"the ticket {path} does not fit into memory") from error
