"""Tickets: a mask with its provenance, and the file that holds it.

A ticket file is a ``.safetensors`` file. Each prunable parameter has one uint8 tensor under its name in the bare base
model: its mask packed eight to a byte, in little bit order, row-major, the last byte padded with zeros. The metadata
(all strings) holds ``format``, ``shapes`` (JSON), ``checksum`` and the fields of :class:`Provenance`. There is no
pickle in it, and a file that is not whole, or was changed, is refused with a sentence.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.provenance import Provenance

FORMAT = "lnsub-ticket/1"
"""What the metadata key ``format`` of a ticket file says."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask with its provenance.

    Args:
        masks: packed masks by parameter name in the bare base model: uint8, 1-D, eight weights to a byte, little bit
            order, row-major; bit 1 keeps a weight. ``np.packbits(mask, axis=None, bitorder="little")`` makes one.
        shapes: the parameters' shapes, under the same names.
        provenance: where the ticket comes from.
        path: the file it was read from, for messages; None for one that was made here.

    Raises:
        ValueError: the names differ, a mask is not packed as above, or there is none.
    """

    masks: Mapping[str, np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]
    provenance: Provenance
    path: Path | None = None

    def __post_init__(self) -> None:
        problem = _mask_problem(self.masks, self.shapes)
        if problem:
            raise ValueError(f"this is not a ticket's mask: {problem}")
        # Name order everywhere: the checksum, the file and every table follow it.
        names = sorted(self.masks)
        object.__setattr__(self, "masks", {name: np.ascontiguousarray(self.masks[name]) for name in names})
        object.__setattr__(self, "shapes", {name: tuple(map(int, self.shapes[name])) for name in names})

    @staticmethod
    def checksum_of(masks: Mapping[str, np.ndarray]) -> str:
        """SHA-256 (hex) over packed masks' bytes in sorted name order, and nothing else."""
        digest = hashlib.sha256()
        for name in sorted(masks):
            digest.update(masks[name].data)
        return digest.hexdigest()

    @cached_property
    def checksum(self) -> str:
        """The checksum of this ticket's masks: which mask it is, whatever its provenance."""
        return self.checksum_of(self.masks)

    @cached_property
    def kept_by_name(self) -> dict[str, int]:
        """How many weights the mask keeps, by parameter name."""
        return {name: count_bits(mask) for name, mask in self.masks.items()}

    @property
    def total(self) -> int:
        """How many prunable weights there are."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def kept(self) -> int:
        """How many of them the mask keeps."""
        return sum(self.kept_by_name.values())

    @property
    def density(self) -> float:
        """The kept share of the prunable weights, measured."""
        return self.kept / self.total

    @property
    def sparsity(self) -> float:
        """The pruned share of the prunable weights, measured (``provenance.sparsity`` is the requested one)."""
        return 1 - self.density

    @property
    def label(self) -> str:
        """A short name for tables and messages: ``xnli/fr/seed0/s0.50``."""
        p = self.provenance
        return f"{p.task}/{p.language}/seed{p.seed}/{Path(ticket_filename(p.sparsity)).stem}"

    @property
    def where(self) -> str:
        """What a message calls the ticket: its file, or its label where it has none."""
        return str(self.path or self.label)

    def check_base(self, fingerprint: str, base_model: str) -> None:
        """Refuses a base model that is not the one that the ticket was found in.

        Args:
            fingerprint: the model's base fingerprint (SHA-256, hex).
            base_model: the model's name, for the message.

        Raises:
            UserError: the fingerprints differ. The name alone may differ: a local copy is the same model.
        """
        p = self.provenance
        if fingerprint != p.base_fingerprint:
            raise UserError(
                f"ticket {self.where} was found in {p.base_model} (fingerprint "
                f"{p.base_fingerprint[:12]}), but the base model here is {base_model} (fingerprint "
                f"{fingerprint[:12]}): use the ticket with the model it was found in"
            )

    def save(self, path: str | Path) -> Path:
        """Writes the ticket file, whole or not at all; a reader never sees half of one.

        The bytes depend on nothing but the mask and the provenance. The parent folder is made where it is missing,
        and a file that was there is replaced.

        Args:
            path: the file; by custom :func:`ticket_filename` in a run's ``tickets`` folder.

        Returns:
            The path, as a :class:`~pathlib.Path`.

        Raises:
            UserError: the file cannot be written. What was there before is then still there.
        """
        path = Path(path)
        with replacing(path) as file:
            file.write(self._header())
            for mask in self.masks.values():
                file.write(mask.data)
        return path

    def _header(self) -> bytes:
        """The head of the file. safetensors' own writer puts metadata in a random order, so that bytes would differ."""
        metadata = self.provenance.to_metadata() | {
            "format": FORMAT,
            "shapes": json.dumps(self.shapes, sort_keys=True),
            "checksum": self.checksum,
        }
        entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
        start = 0
        for name, mask in self.masks.items():
            entries[name] = {"dtype": "U8", "shape": [mask.size], "data_offsets": [start, start + mask.size]}
            start += mask.size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @classmethod
    def load(cls, path: str | Path) -> "Ticket":
        """Reads a ticket file and checks all of it.

        Args:
            path: a file that :meth:`save` wrote.

        Returns:
            The ticket. Its masks are copies in memory, so that the file may be replaced meanwhile.

        Raises:
            UserError: there is no such file, it is not a ticket, a newer lnsub wrote it, or it is damaged: the masks
                do not fit the shapes, or the checksum does not fit the masks.
        """
        path = Path(path)
        with _opened(path) as (file, metadata):
            provenance = _provenance(path, metadata)
            # get_dtype of a slice reads the header alone; numpy cannot hold every dtype of a foreign file.
            dtypes = {name: file.get_slice(name).get_dtype() for name in sorted(file.keys())}
            for name, dtype in dtypes.items():
                if dtype != "U8":
                    raise _damaged(path, f"the mask of {name} is {dtype}, not packed in bytes (U8)")
            masks = {name: file.get_tensor(name) for name in dtypes}
        for key in ("shapes", "checksum"):
            if key not in metadata:
                raise _damaged(path, f"its metadata has no {key!r}")
        shapes = _shapes(metadata["shapes"])
        problem = "its 'shapes' cannot be read" if shapes is None else _mask_problem(masks, shapes)
        if shapes is None or problem:
            raise _damaged(path, problem)
        ticket = cls(masks, shapes, provenance, path)
        if ticket.checksum != metadata["checksum"]:
            raise _damaged(
                path, f"its checksum says {metadata['checksum'][:12]}, its masks give {ticket.checksum[:12]}"
            )
        return ticket


def load_all(paths: Iterable[str | Path]) -> list[Ticket]:
    """Reads ticket files at once, on several threads: most of the time goes into their checksums.

    Raises:
        UserError: see :meth:`Ticket.load`; of several such files, the first in the order of ``paths``.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(Ticket.load, paths))


def read_provenance(path: str | Path) -> Provenance:
    """Reads a ticket file's provenance from its header alone: fast, and no check of the masks.

    Raises:
        UserError: there is no such file, it is not a ticket, or a newer lnsub wrote it.
    """
    path = Path(path)
    with _opened(path) as (_, metadata):
        return _provenance(path, metadata)


def count_bits(packed: np.ndarray) -> int:
    """Counts the bits that are 1 in a contiguous uint8 array."""
    whole = packed.size // 8 * 8
    words = packed[:whole].view(np.uint64)
    return int(np.bitwise_count(words).sum(dtype=np.int64)) + int(np.bitwise_count(packed[whole:]).sum(dtype=np.int64))


def _mask_problem(masks: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What keeps packed masks from fitting the shapes; empty when nothing does."""
    if not masks:
        return "it has no masks"
    odd = sorted(masks.keys() ^ shapes.keys())
    if odd:
        return f"{odd[0]} has a {'mask but no shape' if odd[0] in masks else 'shape but no mask'}"
    for name, mask in masks.items():
        n = math.prod(shapes[name])
        if n < 1:
            return f"{name} has the shape {list(shapes[name])}, which holds no weights"
        if mask.dtype != np.uint8 or mask.ndim != 1:
            return f"the mask of {name} is {mask.dtype} of {mask.ndim} dimensions, not a row of packed bytes"
        if mask.size != -(-n // 8):
            return f"the mask of {name} has {mask.size} bytes, its shape {list(shapes[name])} needs {-(-n // 8)}"
        if n % 8 and int(mask[-1]) >> n % 8:
            return f"the mask of {name} has bits set after its last weight"
    return ""


def _shapes(text: str) -> dict[str, tuple[int, ...]] | None:
    """Reads the metadata's ``shapes``; None where it is not a JSON object of lists of positive whole numbers."""
    try:
        shapes = json.loads(text)
        good = all(isinstance(n, int) and n > 0 for shape in shapes.values() for n in shape)
        return {name: tuple(shape) for name, shape in shapes.items()} if good else None
    except (ValueError, AttributeError, TypeError):
        return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Opens a ticket file and gives it with its metadata, or says why it is not one that can be read here."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            written = metadata.get("format", "")
            if written != FORMAT:
                if written.startswith("lnsub-ticket/"):
                    raise UserError(f"ticket {path} has the format {written}, this lnsub reads {FORMAT}: update lnsub")
                raise UserError(f"{path} is a safetensors file but not a ticket: its metadata has no format {FORMAT}")
            yield file, metadata
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file, so not a ticket that can be read: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"there is no ticket {path}: check the path") from error
    except OSError as error:
        raise UserError(f"cannot read the ticket {path}: {error.strerror or error}") from error


def _provenance(path: Path, metadata: Mapping[str, str]) -> Provenance:
    try:
        return Provenance.from_metadata(metadata)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"ticket {path} has been changed or damaged: {what}; make it again or fetch it anew")
