"""What is measured one at a time: two languages' sentences, and the sub-network that each is embedded under."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnsub.analysis.overlap.jaccard import labels
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.common.errors import UserError
from lnsub.tickets.provenance import INHERITED
from lnsub.tickets.ticket import Ticket


@dataclass(frozen=True)
class Cell:
    """One thing to measure.

    Attributes:
        label: the ticket's, or ``dense``.
        ticket: what the sentences are embedded under; None for the dense model.
        pairs: the sentences.
        pivot_ticket: what the pivot's sentences are embedded under; the same unless each language has its own.
    """

    label: str
    ticket: Ticket | None
    pairs: Pairs
    pivot_ticket: Ticket | None

    @property
    def name(self) -> str:
        """For progress: ``xnli/fr/seed57/s0.50 on de``."""
        return f"{self.label} on {self.pairs.name}"

    def columns(self) -> dict[str, Any]:
        """Which sub-network and languages: ``ticket``, ``source``, ``target``, ``pivot`` and ``sparsity``.

        ``source`` is the language that the ticket was found on, None where dense.
        """
        found = self.ticket.provenance if self.ticket else None
        return {
            "ticket": self.label,
            "source": found.language if found else None,
            "target": self.pairs.language,
            "pivot": self.pairs.pivot,
            "sparsity": found.sparsity if found else 0.0,
        }

    def facts(self) -> dict[str, Any]:
        """The fields of this cell's records that do not depend on what is measured."""
        found = self.ticket.provenance if self.ticket else None
        own = self.ticket is not self.pivot_ticket and self.pivot_ticket is not None
        return {
            "source": found.language if found else None,
            "target": self.pairs.language,
            "sparsity": found.sparsity if found else 0.0,
            "score": found.ranked_by if found else None,
            "init": "pretrained",
            "seed": found.seed if found else 0,
            "round": None,
            "split": "pairs",
            "n": len(self.pairs),
            "ticket": self.ticket.checksum if self.ticket else None,
            # The mask is made on the way, so that no ticket file of the tree says what it is.
            "source_task": INHERITED if found and found.task == INHERITED else None,
            # English goes without saying, as in the records of versions that knew no other pivot.
            "pivot": None if self.pairs.pivot == "en" else self.pairs.pivot,
            "pivot_ticket": self.pivot_ticket.checksum if own and self.pivot_ticket else None,
        }


def shared_cells(tickets: Sequence[Ticket], pairs: Sequence[Pairs]) -> list[Cell]:
    """The dense model's cells and then each ticket's, each over all languages, both sides under the same ticket."""
    return [
        Cell(label, ticket, one, ticket)
        for label, ticket in zip(["dense", *labels(tickets)], [None, *tickets], strict=True)
        for one in pairs
    ]


def own_cells(tickets: Sequence[Ticket], pairs: Sequence[Pairs]) -> list[Cell]:
    """The dense model's cells, and then those in which each language is embedded under its own ticket.

    Args:
        tickets: tickets of the languages of the pairs. Two belong together where they differ in nothing but their
            language: one task, sparsity, seed, score, scope, schedule and round.
        pairs: the sentences.

    Returns:
        A cell for each pair of languages that both have a ticket in one such set, labelled ``<task>/own/seed<k>/s<x>``.

    Raises:
        UserError: two tickets of a set are of one language, or a pair of languages has its tickets in no set.
    """
    sets: dict[tuple[Any, ...], dict[str, Ticket]] = {}
    for ticket in tickets:
        found = ticket.provenance
        key = (found.task, found.sparsity, found.seed, found.score, found.scope, found.schedule, found.round)
        other = sets.setdefault(key, {}).setdefault(found.language, ticket)
        if other is not ticket:
            raise UserError(f"{ticket.label} is given twice, or by two tickets of the same settings: give one.")
    cells = shared_cells([], pairs)
    names = [f"{task}/own/seed{seed}/s{sparsity:.2f}" for task, sparsity, seed, *_ in sets]
    for one in pairs:
        if not any({one.language, one.pivot} <= members.keys() for members in sets.values()):
            raise UserError(
                f"No two tickets that differ in nothing but their language are of '{one.pivot}' and '{one.language}': "
                "--own-tickets needs both."
            )
    for name, members in zip(names, sets.values(), strict=True):
        first = next(iter(members.values()))
        label = f"{name}@{first.checksum[:8]}" if names.count(name) > 1 else name
        cells += [
            Cell(label, members[one.language], one, members[one.pivot])
            for one in pairs
            if {one.language, one.pivot} <= members.keys()
        ]
    return cells
