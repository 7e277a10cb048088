"""The results of `lnsub overlap` as rows: pairs, single tickets, means, indices, clusters.

:mod:`lnsub.analysis.overlap.text` lays them out as tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from lnsub.analysis.overlap.by_shared import by_shared
from lnsub.analysis.overlap.by_unit import UnitMagnitudes, over_units, units_of_ticket
from lnsub.analysis.overlap.clusters import cluster_rows
from lnsub.analysis.overlap.contrast import language_contrasts
from lnsub.analysis.overlap.counts import count
from lnsub.analysis.overlap.departure import Null
from lnsub.analysis.overlap.inheritance import departures, inheritance
from lnsub.analysis.overlap.jaccard import (
    COMPARABLE,
    comparable,
    labels,
    mean,
    overlap,
    same_parameters,
    summary,
)
from lnsub.analysis.overlap.neutrality import neutrality
from lnsub.analysis.overlap.shared import relation_of
from lnsub.common.errors import UserError
from lnsub.tickets.provenance import INHERITED
from lnsub.tickets.ticket import Ticket

Rows = list[dict[str, Any]]
Groupings = Sequence[tuple[str, ...]]

DEPARTED = ("inherited_a", "inherited_b", "departure_a", "departure_b", "departed_both", "departure_overlap")
"""What inherited masks add to the row of a pair."""

NULL = ("null", "departure_corrected", "expected_both", "overlap_null", "inherited_share", "zeros_kept")
"""What theta_0 adds to it: the departure overlap that departures independent given theta_0 would have."""


@dataclass(frozen=True)
class Comparison:
    """Rows on T tickets, over all weights and by each grouping that was asked for.

    The rows of a grouping have its columns (``layer``, ``kind``, ...) beside the others.
    """

    tickets: tuple[Ticket, ...]
    """The T tickets, without the inherited masks among those that were given."""
    groupings: tuple[tuple[str, ...], ...]
    """The groupings, the empty one (all weights together) first."""
    pairs: Rows
    """:func:`overlap` with ``relation``; with inherited masks also :data:`DEPARTED`, None where
    the two have no inherited mask in common, and with theta_0 :data:`NULL`."""
    inheritance: Rows
    """:func:`lnsub.analysis.overlap.inheritance.inheritance`; empty without inherited masks."""
    means: Rows | None
    """:func:`summary`; with inherited masks also the means of ``departure_overlap`` and, with
    theta_0, ``null``, ``departure_corrected`` and ``inherited_share``. None where not asked for."""
    indices: Rows | None
    """:func:`lnsub.analysis.overlap.neutrality.neutrality`; None where not asked for."""
    clusters: Rows | None
    """:func:`lnsub.analysis.overlap.clusters.cluster_rows`, over all weights; None where not asked for."""
    without_inherited: tuple[Ticket, ...]
    """Tickets that have no inherited mask: combined ones of several scopes, and those that keep nothing."""
    unit: str = "weight"
    """What is compared: ``weight``, or the granularity of tickets over units."""
    shared: Rows | None = None
    """:func:`lnsub.analysis.overlap.by_shared.by_shared`; None where not asked for."""
    contrasts: Rows | None = None
    """:func:`lnsub.analysis.overlap.contrast.language_contrasts`; None where not asked for."""

    def by(self, rows: Rows | None, grouping: tuple[str, ...]) -> Rows:
        """Picks the rows of one grouping; none where there are no rows."""
        columns = {column for g in self.groupings for column in g}
        return [row for row in rows or () if columns & row.keys() == set(grouping)]

    def rows(self) -> Rows:
        """All rows; the column ``table`` tells them apart: ``pair``, ``ticket``, ``mean``, ``shared``, ..."""
        tables: dict[str, Rows | None] = {"pair": self.pairs, "ticket": self.inheritance, "mean": self.means}
        tables |= {"shared": self.shared, "contrast": self.contrasts, "index": self.indices, "cluster": self.clusters}
        return [{"table": name} | row for name, rows in tables.items() for row in rows or ()]


def split_inherited(tickets: Sequence[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    """Tells tickets from inherited masks among them; where there are only inherited masks, these are the tickets."""
    found = [t for t in tickets if t.provenance.task != INHERITED]
    return (found, [t for t in tickets if t.provenance.task == INHERITED]) if found else (list(tickets), [])


def check_references(tickets: Sequence[Ticket], references: Sequence[Ticket]) -> None:
    """Refuses masks that cannot take the place of inherited ones: one for each kind of ticket is needed, and no more.

    Args:
        tickets: the tickets that are held against them.
        references: masks such as those of a calibration sample of all languages together.

    Raises:
        UserError: two would serve the same tickets, or one of them none.
    """

    def kind(ticket: Ticket) -> tuple[object, ...]:
        p = ticket.provenance
        return round(p.sparsity, 6), p.scope, p.units

    kinds = {kind(ticket) for ticket in tickets}
    found: dict[tuple[object, ...], Ticket] = {}
    for reference in references:
        if kind(reference) not in kinds:
            raise UserError(f"--reference {reference.where} is of a sparsity, scope or granularity that no ticket has")
        if (other := found.setdefault(kind(reference), reference)) is not reference:
            raise UserError(
                f"--reference names {other.where} and {reference.where}, which are of one sparsity and scope: name the "
                "one that all tickets are held against"
            )


def departing(tickets: Sequence[Ticket]) -> list[int]:
    """The positions of the tickets that can have an inherited mask: pruned by one scope, and not to nothing."""
    return [place for place, t in enumerate(tickets) if t.provenance.scope != "mixed" and t.provenance.sparsity < 1]


def compare(
    tickets: Sequence[Ticket],
    groupings: Groupings = (),
    *,
    inherited: Sequence[Ticket] = (),
    theta_0: Mapping[str, np.ndarray] | None = None,
    means: bool = False,
    indices: bool = False,
    clusters: bool = False,
    cluster_count: int | None = None,
    by_unit: str | None = None,
    null: Null = "magnitude",
    shared: bool = False,
    contrasts: Sequence[tuple[str, str]] = (),
) -> Comparison:
    """Compares tickets.

    Args:
        tickets: tickets of one base model, two or more, or with inherited masks at least one.
        groupings: each some of :data:`lnsub.tickets.parameters.GROUPS`; rows over all weights are always there.
        inherited: inherited masks, one for each sparsity and scope of the tickets.
        theta_0: the base model's weights by name, for the null of the departures. Without it there is none: one that
            knows only matrix and direction is far too low.
        means: gather the means over pairs.
        indices: gather the neutrality indices.
        clusters: gather the clusters of languages.
        cluster_count: how many; None for the cut at the largest gap.
        by_unit: compare the ``neuron``, ``head`` or ``row`` units that tickets of this granularity keep; None compares
            weights.
        null: what flips depend on by themselves; see :func:`lnsub.analysis.overlap.departure.count_departures`.
        shared: gather the means over pairs by what they share.
        contrasts: two sets of runs each, to contrast languages with data samples over.

    Returns:
        The rows.

    Raises:
        UserError: too few tickets, an unknown grouping, or see the functions named at :class:`Comparison`.
    """
    if len(tickets) < 2 and not inherited:
        raise UserError("overlap compares tickets, so it takes at least two: name another file")
    if by_unit is not None:
        if theta_0 is not None:
            theta_0 = UnitMagnitudes(theta_0, units_of_ticket(tickets[0], by_unit))
        tickets = [over_units(ticket, by_unit) for ticket in tickets]
        inherited = [over_units(ticket, by_unit) for ticket in inherited]
    chosen = ((), *dict.fromkeys(g for g in groupings if g))
    places = departing(tickets) if inherited else []
    all_pairs, all_alone, all_means, all_indices, all_shared, all_contrasts = (Rows() for _ in range(6))
    over = same_parameters(tickets, inherited)
    if not over:
        raise UserError(
            "these tickets have no parameter in common: compare those of one model, or of one kind of unit, at a time"
        )
    counts = count(tickets, over) if len(tickets) > 1 else None
    for by in chosen:
        pairs = [] if counts is None else overlap(counts, by)
        for row in pairs:
            row["relation"] = relation_of(row)
        if places:
            _add_departures(pairs, tickets, places, inherited, theta_0, by, null, over)
            all_alone += _inheritance(tickets, places, inherited, by, over)
        if means:
            all_means += _means(tickets, pairs, by, over)
        if indices:
            all_indices += neutrality(tickets, by, inherited=inherited, theta_0=theta_0, null=null, over=over)
        all_shared += by_shared(tickets, pairs, by) if shared else []
        all_contrasts += language_contrasts(tickets, pairs, contrasts, by)
        all_pairs += pairs
    overall = [row for row in all_pairs if not {c for by in chosen for c in by} & row.keys()]
    without_inherited = tuple(t for place, t in enumerate(tickets) if inherited and place not in places)
    return Comparison(
        tickets=tuple(tickets),
        groupings=chosen,
        pairs=all_pairs,
        inheritance=all_alone,
        means=all_means if means else None,
        indices=all_indices if indices else None,
        clusters=cluster_rows(tickets, overall, cluster_count) if clusters else None,
        without_inherited=without_inherited,
        unit=by_unit or "weight",
        shared=all_shared if shared else None,
        contrasts=all_contrasts if contrasts else None,
    )


def _renamed(tickets: Sequence[Ticket], places: Sequence[int]) -> dict[str, str]:
    """From the labels of some of the tickets among themselves to their labels among all."""
    named = labels(tickets)
    return {label: named[p] for label, p in zip(labels([tickets[p] for p in places]), places, strict=True)}


def _add_departures(
    pairs: Rows,
    tickets: Sequence[Ticket],
    places: Sequence[int],
    inherited: Sequence[Ticket],
    theta_0: Mapping[str, np.ndarray] | None,
    by: tuple[str, ...],
    null: Null,
    over: frozenset[str],
) -> None:
    names = _renamed(tickets, places)
    found = {
        (names[r["a"]], names[r["b"]], *(r[b] for b in by)): r
        for r in departures([tickets[p] for p in places], inherited, theta_0, by, null=null, over=over)
    }
    columns = DEPARTED + (NULL if theta_0 is not None else ())
    for row in pairs:
        departed = found.get((row["a"], row["b"], *(row[b] for b in by)), {})
        row |= {column: departed.get(column) for column in columns}


def _inheritance(
    tickets: Sequence[Ticket],
    places: Sequence[int],
    inherited: Sequence[Ticket],
    by: tuple[str, ...],
    over: frozenset[str],
) -> Rows:
    names = _renamed(tickets, places)
    found = inheritance([tickets[p] for p in places], inherited, by, over=over)
    return [r | {"ticket": names[r["ticket"]]} for r in found]


def _means(tickets: Sequence[Ticket], pairs: Rows, by: tuple[str, ...], over: frozenset[str]) -> Rows:
    """The means over pairs, with those of the departures where the pairs have them."""
    named = labels(tickets)
    place = {id(ticket): named[t] for t, ticket in enumerate(tickets)}
    of_set = {
        key: set(combinations([place[id(t)] for t in members], 2)) for key, members in comparable(tickets).items()
    }
    rows = summary(tickets, by, over=over)
    departed = ("departure_overlap", "null", "departure_corrected", "inherited_share")
    columns = [column for column in departed if pairs and column in pairs[0]]
    for row in rows if columns else ():
        among = of_set[tuple(row[c] for c in COMPARABLE)]
        inside = [
            pair
            for pair in pairs
            if (pair["a"], pair["b"]) in among
            and all(pair[b] == row[b] for b in by)
            and row["relation"] in ("all", pair["relation"])
        ]
        row |= {column: mean(pair[column] for pair in inside) for column in columns}
    return rows
