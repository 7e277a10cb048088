"""Tickets to and from a model repository on the Hugging Face Hub.

::

    tickets/<task>/<language>/seed<k>/s0.50.safetensors    as in a tree of runs; README.md lists them all
"""

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.hub import LIBRARY, check_may_push, check_repository, hub_errors
from lnsub.common.names import looks_local
from lnsub.common.printable import printable
from lnsub.export.hub import Repository
from lnsub.export.ticket_card import Listed, ticket_card
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.file_format import FORMAT
from lnsub.tickets.hub import HubName, expanded, fetch, local_file
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import load_with_header

FOLDER = "tickets"
"""The folder of a repository that its tickets are in."""

PATTERNS = (f"{FOLDER}/**/*.safetensors", "ticket.safetensors")
"""Where the tickets of a repository are: of those that hold tickets, and of exported sub-networks."""

README = "README.md"
"""The card."""


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Attributes:
        url: the repository's address.
        added: paths of the tickets that were added, in the repository.
        there: how many of those given were there already.
        total: how many tickets the repository has now.
    """

    url: str
    added: tuple[str, ...]
    there: int
    total: int


def push_tickets(
    sources: Sequence[str | Path],
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
) -> Pushed:
    """Adds tickets to a repository, in one commit, and lists all that it has then in its card.

    Every ticket is read and checked before anything is sent. A ticket whose place is taken by another mask gets its
    checksum into its name; nothing in the repository is replaced but the card.

    Args:
        sources: ticket files, ``hf://`` names of such, or trees of runs, of which all tickets are taken.
        repository: ``ORG/NAME``; it is made where there is none.
        private: make it a private one.
        revision: a branch; None for the default one.
        license: the Hub's name of a licence, for the card; None keeps the card's.

    Returns:
        What was added.

    Raises:
        UserError: a source is not a whole ticket, or a folder has none; the tickets, or those in the repository, are of
            different base models; the client is offline or has no token, or the Hub refuses or cannot be reached.
    """
    check_repository(repository)
    check_may_push()
    files = _read(sources)
    _check_bases([(str(path), listed.provenance) for path, listed in files])
    base_model = files[0][1].provenance.base_model
    if looks_local(base_model):
        sys.stderr.write(
            f"remark: these tickets name their base model as {printable(base_model)}, a folder of this machine: "
            "whoever reads them sees that path, and has to say where that model is\n"
        )
    place = Repository.open(repository, private=private, revision=revision)
    there = _listed(place)
    _check_bases(
        [(f"{repository}/{ticket.path}", ticket.provenance) for ticket in there]
        + [(str(path), listed.provenance) for path, listed in files[:1]]
    )
    by_path = {ticket.path: ticket for ticket in there}
    added: dict[str, Path] = {}
    for file, ticket in files:
        path = _free_path(ticket, by_path)
        if path is not None:
            by_path[path] = Listed(path, ticket.provenance, ticket.checksum)
            added[path] = file
    earlier = _earlier_card(place)
    card = ticket_card(repository, revision, list(by_path.values()), license=license, earlier=earlier)
    if added or card != earlier:
        message = f"Add {_count(len(added))}" if added else "Update the card"
        place.commit_files({**added, README: card.encode()}, message)
    return Pushed(place.url, tuple(sorted(added)), len(files) - len(added), len(by_path))


def pull_tickets(
    repository: str, output: Path, *, patterns: Sequence[str] = PATTERNS, revision: str | None = None
) -> tuple[list[Path], int]:
    """Fetches the tickets of a repository into a folder, checked, at the paths that they have in the repository.

    Args:
        repository: ``ORG/NAME``.
        output: the folder; made where it is missing.
        patterns: glob patterns of paths in the repository.
        revision: a branch, tag or commit; None for the default branch.

    Returns:
        The files, and how many of them had been there already, with the same content.

    Raises:
        UserError: nothing matches, a file is not a whole ticket, another file has its place, or the Hub cannot be
            reached. Nothing is written then.
    """
    check_repository(repository)
    for pattern in patterns:
        HubName.parse(str(HubName(repository, revision, pattern)))  # refuses what is no path in a repository
    files, _ = fetch(repository, patterns, revision)
    if not files:
        raise UserError(
            f"{repository} on the Hugging Face Hub has no ticket that matches {' or '.join(patterns)}: look at its "
            "page, and name other files with --tickets"
        )
    new = {}
    for path, source in sorted(files.items()):
        load_with_header(source)
        target = output / path
        if not os.path.lexists(target):
            new[target] = source
        elif not target.is_file() or target.read_bytes() != source.read_bytes():
            raise UserError(f"{target} is there and is not the ticket that {repository} has: name another --output")
    for target, source in new.items():
        with replacing(target) as file:
            file.write(source.read_bytes())
    return [output / path for path in sorted(files)], len(files) - len(new)


def _read(sources: Iterable[str | Path]) -> list[tuple[Path, Listed]]:
    """Reads and checks tickets; of several files with one mask and place, the first."""
    names: list[str] = []
    for source in expanded(sources):
        if not Path(source).is_dir():
            names.append(source)
            continue
        inside = [str(path) for path in sorted(Path(source).rglob(f"{FOLDER}/**/*.safetensors"))]
        if not inside:
            raise UserError(
                f"There is no ticket in {source}: `lnsub fit` writes them to "
                f"OUTPUT/<task>/<language>/seed<k>/{FOLDER}/s*.safetensors."
            )
        names += inside
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = list(pool.map(_checked, dict.fromkeys(names)))
    size = sum(path.stat().st_size for path, _ in read)
    sys.stderr.write(f"checked {_count(len(read))}, {size / 1e6:,.1f} MB\n")
    return list({(ticket.path, ticket.checksum): (path, ticket) for path, ticket in reversed(read)}.values())[::-1]


def _checked(name: str) -> tuple[Path, Listed]:
    """Reads a ticket's file, all of it; and where it belongs in a repository."""
    path = local_file(name)
    _, header = load_with_header(path)
    p = header.provenance
    folder = f"{FOLDER}/{p.task}/{p.language}/seed{p.seed}"
    return path, Listed(f"{folder}/{ticket_filename(p.sparsity)}", p, header.checksum)


def _free_path(ticket: Listed, taken: dict[str, Listed]) -> str | None:
    """Where a ticket goes in a repository; None if it is there."""
    stem = ticket.path.removesuffix(".safetensors")
    for path in (ticket.path, f"{stem}-{ticket.checksum[:12]}.safetensors"):
        if path not in taken:
            return path
        if taken[path].checksum == ticket.checksum:
            return None
    raise UserError(f"{stem} in the repository is taken by another ticket with the same checksum: push it elsewhere")


def _check_bases(tickets: Sequence[tuple[str, Provenance]]) -> None:
    """Refuses tickets of several base models; they are given with their names for the message."""
    by_base = {p.base_fingerprint: (name, p) for name, p in tickets}
    if len(by_base) > 1:
        (one, first), (other, second) = list(by_base.values())[:2]
        raise UserError(
            f"A repository holds the tickets of one base model, but {one} was found in {printable(first.base_model)}, "
            f"{other} in {printable(second.base_model)}, whose weights differ: push them to different ones"
        )


def _listed(place: Repository) -> list[Listed]:
    """The tickets that a repository has, from their headers alone; other files are left out."""

    def header(path: str) -> Listed | None:
        from huggingface_hub.errors import HfHubHTTPError, SafetensorsParsingError

        try:
            facts = place.api.parse_safetensors_file_metadata(place.name, path, revision=place.commit).metadata
            if facts.get("format") != FORMAT:
                return None
            return Listed(path, Provenance.from_metadata(facts), facts["checksum"])
        except HfHubHTTPError:
            raise
        except (SafetensorsParsingError, ValueError, KeyError):  # whatever somebody has put there
            return None

    paths = sorted(p for p in place.files if p.startswith(f"{FOLDER}/") and p.endswith(".safetensors"))
    with hub_errors(place.name), ThreadPoolExecutor(8) as pool:
        return [ticket for ticket in pool.map(header, paths) if ticket is not None]


def _earlier_card(place: Repository) -> str | None:
    if README not in place.files:
        return None
    from huggingface_hub import hf_hub_download

    with hub_errors(f"{place.name}/{README}"):
        file = hf_hub_download(place.name, README, revision=place.commit, library_name=LIBRARY)
    return Path(file).read_text(encoding="utf-8")


def _count(number: int) -> str:
    return f"{number:,} ticket{'' if number == 1 else 's'}"
