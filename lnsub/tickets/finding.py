"""Finding ticket files by pattern and reading only their headers, fast and without torch."""

import glob
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lnsub.common.errors import UserError
from lnsub.common.printable import printable
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.file_format import read_header
from lnsub.tickets.hub import expanded, local_file, on_hub
from lnsub.tickets.provenance import INHERITED, Provenance
from lnsub.tickets.ticket import Ticket, load_with_header


@dataclass(frozen=True)
class FoundTicket:
    """The header of a ticket file.

    Attributes:
        path: the file.
        provenance: its provenance.
        checksum: SHA-256 of its masks according to the header; verified when the masks are read.
        shapes: its parameters' shapes, as JSON.
    """

    path: Path
    provenance: Provenance
    checksum: str
    shapes: str

    @classmethod
    def read(cls, path: Path) -> "FoundTicket":
        """Reads a ticket file's header; raises UserError if it is not a ticket."""
        header = read_header(path)
        return cls(path, header.provenance, header.checksum, header.shapes)

    def load(self) -> Ticket:
        """Reads the whole ticket.

        Raises:
            UserError: see :meth:`Ticket.load`; or the file holds another ticket by now, to which nothing that was
                planned by this header applies.
        """
        ticket, header = load_with_header(self.path)
        if (header.provenance, header.checksum, header.shapes) != (self.provenance, self.checksum, self.shapes):
            raise UserError(f"ticket {self.path} has been replaced by another meanwhile: run the same command again")
        return ticket

    @property
    def has_one_source(self) -> bool:
        """Whether it was found on one language or mixture, unlike an inherited mask or a union of two tickets."""
        p = self.provenance
        return p.language != INHERITED and ("+" not in p.language or not p.sources)

    @property
    def key(self) -> tuple[str | int | float, ...]:
        """The sort key."""
        p = self.provenance
        return (p.task, p.language, p.seed, p.sparsity, p.ranked_by, p.scope, self.checksum)

    @cached_property
    def name(self) -> str:
        """A unique name for files: ``xnli-fr-seed57-s0.50-1a2b3c4d``."""
        p = self.provenance
        return f"{slug(p.task)}-{slug(p.language)}-seed{p.seed}-{sparsity_label(p.sparsity)}-{self.checksum[:8]}"

    @property
    def shapes_name(self) -> str:
        """A hash of its parameters' shapes, for file names."""
        return hashlib.sha256(self.shapes.encode()).hexdigest()[:8]


def find_tickets(patterns: Sequence[str], sparsities: Sequence[float] | None = None) -> list[FoundTicket]:
    """Finds ticket files.

    Args:
        patterns: paths or glob patterns, in which ``**`` matches any depth of folders; here or, with ``hf://``, on the
            Hugging Face Hub (see :mod:`lnsub.tickets.hub`).
        sparsities: keep only tickets of these sparsities.

    Returns:
        The distinct tickets, in an order that depends only on them; of several files with the same ticket, the first.

    Raises:
        UserError: a pattern matches no file, or a sparsity no ticket; a file is not a ticket; or the tickets have
            different base models.
    """
    paths: set[str] = set()
    for pattern in patterns:
        if on_hub(pattern):
            paths |= {str(local_file(name)) for name in expanded([pattern])}
            continue
        # pathlib's glob takes no absolute pattern.
        matched = [path for path in (*glob.glob(pattern, recursive=True), pattern) if Path(path).is_file()]  # noqa: PTH207
        if not matched:
            raise UserError(
                f"No ticket matches --tickets '{pattern}': `lnsub fit` writes tickets to "
                "OUTPUT/<task>/<language>/seed<k>/tickets/s*.safetensors."
            )
        paths |= set(matched)
    found = {ticket.name: ticket for ticket in (FoundTicket.read(Path(path)) for path in sorted(paths, reverse=True))}
    tickets = sorted(found.values(), key=lambda ticket: ticket.key)
    by_base = {ticket.provenance.base_fingerprint: ticket for ticket in tickets}
    if len(by_base) > 1:
        one, other = list(by_base.values())[:2]
        raise UserError(
            f"The tickets have different base models: {one.path} was found in {printable(one.provenance.base_model)}, "
            f"{other.path} in {printable(other.provenance.base_model)}, whose weights differ. Use tickets of one base "
            "model."
        )
    if sparsities is None:
        return tickets
    found_sparsities = sorted({ticket.provenance.sparsity for ticket in tickets})
    for wanted in sparsities:
        if not any(_same(wanted, sparsity) for sparsity in found_sparsities):
            listed = ", ".join(f"{sparsity:g}" for sparsity in found_sparsities)
            raise UserError(f"No ticket has sparsity {wanted:g}: found {listed}.")
    return [t for t in tickets if any(_same(wanted, t.provenance.sparsity) for wanted in sparsities)]


def lower_tickets(ticket: FoundTicket, others: Iterable[FoundTicket] = ()) -> list[FoundTicket]:
    """Finds the tickets of lower sparsities that the run of a ticket made before it.

    Args:
        ticket: a ticket from a run; for others (combined, inherited), none is found.
        others: tickets that may be of the same run too; those beside ``ticket`` in its folder come first.

    Returns:
        The tickets with the same base model, task, language, seed, score, scope and parameters, one for each sparsity,
        lowest first.

    Raises:
        UserError: a file beside ``ticket`` is not a ticket.
    """
    run = _run_of(ticket)
    if ticket.provenance.sources or run is None:
        return []
    beside = [FoundTicket.read(path) for path in sorted(ticket.path.parent.glob("s*.safetensors"))]
    found: dict[float, FoundTicket] = {}
    for other in [*beside, *sorted(others, key=lambda other: other.key)]:
        sparsity = round(other.provenance.sparsity, 6)
        if 0 < sparsity < round(ticket.provenance.sparsity, 6) and _run_of(other) == run:
            found.setdefault(sparsity, other)
    return [found[sparsity] for sparsity in sorted(found)]


def _run_of(ticket: FoundTicket) -> tuple[object, ...] | None:
    """What the tickets of one run have in common; None for an inherited mask, which no run has found."""
    p = ticket.provenance
    if p.task == INHERITED:
        return None
    return (p.base_fingerprint, p.task, p.language, p.seed, p.ranked_by, p.scope, ticket.shapes)


def _same(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6


def sparsity_label(sparsity: float) -> str:
    """Formats a sparsity for file names: ``s0.50``."""
    return ticket_filename(sparsity).removesuffix(".safetensors")


def slug(text: str) -> str:
    """Replaces characters that are unsafe in file names. Slugs are not unique; names also contain a checksum."""
    return re.sub(r"[^\w.+-]", "_", text)[:60]
