"""The ticket files of a tree of runs, and comparisons of those that differ in their runs alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnsub.analysis.overlap.comparison import compare
from lnsub.analysis.overlap.jaccard import COMPARABLE
from lnsub.analysis.overlap.neutrality import neutrality
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0, inherited_masks
from lnsub.tickets.combining import HOW
from lnsub.tickets.density import density_by
from lnsub.tickets.finding import FoundTicket
from lnsub.tickets.provenance import INHERITED, Provenance, start_sparsity
from lnsub.tickets.ticket import Ticket

TABLES = ("pairs", "layers", "alone", "densities", "indices", "controls")
"""What the comparison of a tree's tickets gives, see :class:`lnsub.report.collect.Material`."""

SetKey = tuple[str, str, str, str, float, str]
"""Model, task, score, scope, sparsity and base fingerprint."""

Rows = list[dict[str, Any]]


def model_name(name: str) -> str:
    """The last part of a base model's name or path, the same for every way of writing it."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def is_found(provenance: Provenance) -> bool:
    """Whether a ticket was found by pruning in rounds, and is not inherited, a baseline or combined."""
    p = provenance
    made = p.score in {"random", "shuffled", "oneshot", *HOW} or start_sparsity(p.score) is not None
    return p.task != INHERITED and not p.sources and not made


@dataclass(frozen=True)
class TicketIndex:
    """The ticket files of a tree, with their provenance."""

    tickets: tuple[FoundTicket, ...]

    @classmethod
    def read(cls, root: Path) -> "tuple[TicketIndex, list[str]]":
        """Reads the headers of all ticket files below a folder.

        Args:
            root: the tree.

        Returns:
            The index, and a sentence on each file that had to be left out. Files named ``model*`` are the weights of
            exported sub-networks, and not tickets.
        """
        found, problems = [], []
        for path in sorted(root.rglob("*.safetensors")):
            if not path.name.startswith("model"):
                try:
                    found.append(FoundTicket.read(path))
                except UserError as error:
                    problems.append(f"Left out: {error}.")
        return cls(tuple(found)), problems

    @property
    def by_checksum(self) -> dict[str, Provenance]:
        """The provenance of each mask; of two tickets with the same mask, that of the one found by pruning."""
        ordered = sorted(self.tickets, key=lambda t: is_found(t.provenance))
        return {ticket.checksum: ticket.provenance for ticket in ordered}

    def sets(self) -> dict[SetKey, list[FoundTicket]]:
        """The tickets that were found by pruning, in sets that differ in their runs alone; copies left out."""
        found: dict[SetKey, dict[tuple[str, str, str], FoundTicket]] = {}
        for ticket in self.tickets:
            p = ticket.provenance
            if is_found(p):
                key = (model_name(p.base_model), p.task, p.ranked_by, p.scope, round(p.sparsity, 6), p.base_fingerprint)
                found.setdefault(key, {})[ticket.checksum, p.language, p.run] = ticket
        return {key: list(found[key].values()) for key in sorted(found)}

    def inherited_of(self, key: SetKey) -> list[FoundTicket]:
        """The inherited masks that serve a set."""
        return [
            ticket
            for ticket in self.tickets
            if (p := ticket.provenance).task == INHERITED
            and (p.scope, round(p.sparsity, 6), p.base_fingerprint) == key[3:]
            and (p.granularity == "weight" or key[2].endswith(f" by {p.granularity}"))
        ]

    def compare(self, inherited_from: str | None) -> tuple[dict[str, Rows], list[str]]:
        """Compares the tickets of each set, one set at a time.

        Args:
            inherited_from: see :func:`lnsub.report.collect.collect`.

        Returns:
            Rows by table, see :data:`TABLES`, each with ``model``, ``task``, ``score``, ``scope`` and ``sparsity``;
            and a sentence on each ticket that is damaged, or set of them that cannot be compared, and is left out.

        Raises:
            UserError: the base model cannot be read, or it is not that of the tickets.
        """
        problems: list[str] = []
        tables: dict[str, Rows] = {name: [] for name in TABLES}
        theta_0, loaded = None, ""
        for key, members in self.sets().items():
            tickets = _whole(members, problems)
            masks = _whole(self.inherited_of(key), problems)
            if not tickets:
                continue
            if inherited_from is not None:
                name = inherited_from or tickets[0].provenance.base_model
                if theta_0 is None or name != loaded:
                    theta_0, loaded = _theta_0(name, named_by_tickets=not inherited_from), name
                masks = inherited_masks(theta_0, tickets, masks)
            about = dict(zip(("model", "task", "score", "scope", "sparsity"), key, strict=False))
            try:
                compared = compare_set(tickets, masks, theta_0)
            except UserError as error:
                problems.append(f"Left out: {error}.")
                continue
            for name, rows in compared.items():
                tables[name] += [row | about for row in rows]
        return tables, list(dict.fromkeys(problems))


def _whole(found: list[FoundTicket], problems: list[str]) -> list[Ticket]:
    """Loads tickets; adds a sentence on each that is damaged to ``problems``."""
    tickets = []
    for one in found:
        try:
            tickets.append(one.load())
        except UserError as error:
            problems.append(f"Left out: {error}.")
    return tickets


def _theta_0(base_model: str, named_by_tickets: bool) -> Theta0:
    try:
        return Theta0.load(base_model)
    except UserError as error:
        if not named_by_tickets:
            raise
        raise UserError(
            f"{error} The tickets name that base model: give its place with --inherited BASE_MODEL."
        ) from error


def compare_set(
    tickets: list[Ticket], inherited: list[Ticket], theta_0: Mapping[str, np.ndarray] | None
) -> dict[str, Rows]:
    """Compares tickets that differ in their runs alone.

    Args:
        tickets: one or more.
        inherited: inherited masks that serve them; none leaves departures out.
        theta_0: the base model's weights, for the null of the departures.

    Returns:
        Rows by table, see :data:`TABLES`: those of plain runs, and as ``controls`` the pairs of all.
    """
    tables = {name: Rows() for name in TABLES}
    plain = [ticket for ticket in tickets if not ticket.provenance.condition]
    tables["densities"] = [
        {"language": ticket.provenance.language, "seed": ticket.provenance.seed} | row
        for ticket in plain
        for row in density_by(ticket.kept_by_name, ticket.weights_by_name)
    ]
    if len(plain) > 1 or (plain and inherited):
        found = compare(plain, [("layer",)], inherited=inherited, theta_0=theta_0)
        tables["pairs"], tables["layers"] = found.by(found.pairs, ()), found.by(found.pairs, ("layer",))
        tables["alone"] = found.by(found.inheritance, ())
    tables["controls"] = tables["pairs"]
    if len(plain) < len(tickets) > 1:
        tables["controls"] = compare(tickets, inherited=inherited, theta_0=theta_0).pairs
    if plain and min(len({t.provenance.seed for t in plain}), len({t.provenance.language for t in plain})) > 1:
        tables["indices"] = [
            {column: value for column, value in row.items() if column not in COMPARABLE}
            for row in neutrality(plain, inherited=inherited, theta_0=theta_0)
        ]
    return tables
