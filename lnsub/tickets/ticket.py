"""Tickets: a mask with its provenance. Its file is described in :mod:`lnsub.tickets.file_format`."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lnsub.common.errors import UserError
from lnsub.common.printable import printable
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.file_format import Header, damaged, read_file, write_file
from lnsub.tickets.hub import local_file, on_hub
from lnsub.tickets.packed import count_bits, mask_problem
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.units import Units


@dataclass(frozen=True, eq=False)
class Ticket:
    """A mask with its provenance.

    Args:
        masks: packed masks by parameter name in the bare base model: uint8, 1-D, eight weights to a byte, little bit
            order, row-major; bit 1 keeps a weight. ``np.packbits(mask, axis=None, bitorder="little")`` makes one.
        shapes: the parameters' shapes, under the same names.
        provenance: where the ticket comes from.
        path: the file it was read from, for messages; None where it was not read from a file.
        hub_name: its name on the Hugging Face Hub, for messages, where it was read by that.

    Raises:
        ValueError: the names differ, a mask is not packed as above, or there is none.
    """

    masks: Mapping[str, np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]
    provenance: Provenance
    path: Path | None = None
    hub_name: str = ""

    def __post_init__(self) -> None:
        problem = mask_problem(self.masks, self.shapes)
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

    @cached_property
    def weights_by_name(self) -> dict[str, int]:
        """How many prunable weights there are, by parameter name."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @cached_property
    def units(self) -> Units | None:
        """The heads, neurons or rows that the mask keeps or prunes as a whole; None: single weights.

        Raises:
            UserError: what the ticket says of them does not fit its masks.
        """
        p = self.provenance
        if p.granularity == "weight" and not p.units:
            return None
        try:
            units = Units.from_json(p.units, self.shapes)
        except ValueError as error:
            raise damaged(self.path or Path(self.label), str(error)) from error
        if units.granularity != p.granularity:
            raise damaged(self.path or Path(self.label), f"its units are {units.granularity}s, not {p.granularity}s")
        return units

    @property
    def total(self) -> int:
        """How many prunable weights there are."""
        return sum(self.weights_by_name.values())

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
        """A short name for tables and messages, as its file is in a tree of runs: ``xnli/fr/seed0-sample1/s0.50``."""
        p = self.provenance
        return f"{p.task}/{p.language}/{p.run}/{Path(ticket_filename(p.sparsity)).stem}"

    @property
    def where(self) -> str:
        """What a message calls the ticket: its file, or its label where it has none."""
        return self.hub_name or str(self.path or self.label)

    @property
    def base(self) -> str:
        """What a message calls the base model: its name and the start of its fingerprint."""
        p = self.provenance
        return printable(f"{p.base_model} (fingerprint {p.base_fingerprint[:12]})")

    def bits(self) -> dict[str, np.ndarray]:
        """Unpacks the masks: boolean arrays of the parameters' shapes, by name."""
        return {
            name: np.unpackbits(mask, count=self.weights_by_name[name], bitorder="little")
            .view(np.bool_)
            .reshape(self.shapes[name])
            for name, mask in self.masks.items()
        }

    def check_base(self, fingerprint: str, base_model: str) -> None:
        """Refuses a base model that is not the one that the ticket was found in.

        Args:
            fingerprint: the model's base fingerprint (SHA-256, hex).
            base_model: the model's name, for the message.

        Raises:
            UserError: the fingerprints differ. The name alone may differ: a local copy is the same model.
        """
        if fingerprint != self.provenance.base_fingerprint:
            raise UserError(
                f"ticket {self.where} was found in {self.base}, but the base model here is {base_model} (fingerprint "
                f"{fingerprint[:12]}): use the ticket with the model it was found in"
            )

    def save(self, path: str | Path) -> Path:
        """Writes the ticket file, whole or not at all; no reader ever sees half of one.

        The bytes depend on nothing but the mask and the provenance. The parent folder is made where it is missing,
        and an existing file is replaced.

        Args:
            path: the file; by convention :func:`ticket_filename` in a run's ``tickets`` folder.

        Returns:
            The path, as a :class:`~pathlib.Path`.

        Raises:
            UserError: the file cannot be written. What was there before is still there.
        """
        path = Path(path)
        shapes = json.dumps(self.shapes, sort_keys=True)
        write_file(path, self.masks, Header(self.provenance, self.checksum, shapes))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Ticket":
        """Reads a ticket file and checks all of it.

        Args:
            path: a file that :meth:`save` wrote, or ``hf://ORG/NAME[@REVISION]/PATH`` for one on the Hugging Face Hub
                (see :mod:`lnsub.tickets.hub`).

        Returns:
            The ticket. Its masks are copies in memory, so that the file may be replaced meanwhile.

        Raises:
            UserError: there is no such file, it is not a ticket, a newer lnsub wrote it, or it is damaged: the masks
                do not fit the shapes or the checksum, or the metadata does not fit its own; or it cannot be fetched.
        """
        return load_with_header(path)[0]


def load_with_header(name: str | Path) -> tuple[Ticket, Header]:
    """Reads a ticket file as :meth:`Ticket.load` does; returns what it says of itself too."""
    path = local_file(name)
    masks, shapes, header = read_file(path)
    ticket = Ticket(masks, shapes, header.provenance, path, str(name) if on_hub(name) else "")
    if ticket.checksum != header.checksum:
        raise damaged(path, f"its checksum says {header.checksum[:12]}, its masks give {ticket.checksum[:12]}")
    if ticket.units is not None:
        ticket.units.kept(ticket.bits())
    return ticket, header


def load_all(paths: Iterable[str | Path]) -> list[Ticket]:
    """Reads ticket files on several threads, as most of the time goes into their checksums.

    Raises:
        UserError: see :meth:`Ticket.load`; of several such files, the first in the order of ``paths``.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(Ticket.load, paths))
