"""Overlap of tickets: the Jaccard similarity of their masks, with the level that chance gives.

Overlap is kept in both / kept in either. Beside it stands the chance level, the overlap of random masks of the same
densities a and b: a b / (a + b - a b), and the chance-corrected share (overlap - chance) / (1 - chance). A pair is
compared over the parameters that both tickets have.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from lnsub.analysis.overlap.counts import Counts, count
from lnsub.analysis.overlap.shared import RELATIONS, in_words, relation_of, shared
from lnsub.tickets.parameters import group_columns
from lnsub.tickets.provenance import INHERITED
from lnsub.tickets.ticket import Ticket

ALIKE: tuple[str, ...] = ("task", "score", "scope", "sparsity")
"""What tickets have in common that differ only in their runs: in language, seed and condition."""

COMPARABLE: tuple[str, ...] = (*ALIKE, "labels")
"""The same, with the labels that their runs trained on: shuffled ones are never mixed with given ones."""


def same_parameters(tickets: Sequence[Ticket], inherited: Sequence[Ticket] = ()) -> frozenset[str]:
    """The parameters that all of these have, so that everything that stands side by side is over the same weights.

    A pooler that one task's model lacks, or of which the checkpoint has nothing to inherit, is left out of all.
    """
    return frozenset.intersection(*(frozenset(ticket.masks) for ticket in (*tickets, *inherited)))


def overlap(
    tickets: Sequence[Ticket] | Counts, by: Iterable[str] = (), *, over: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The overlap of each pair of tickets.

    Args:
        tickets: two or more tickets of one base model, or their counts.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`, for a row for each pair and group; none gives one row a
            pair, over all weights.
        over: the parameters that count, such as :func:`same_parameters`; None: those that each two tickets have. Counts
            are over what they were counted over.

    Returns:
        Rows of ``a`` and ``b`` (labels), the columns of ``by``, ``overlap``, ``chance``, ``corrected``,
        ``chance_by_matrix`` (of masks that are random within each matrix, at its densities), ``density_a``,
        ``density_b``, ``kept_a``, ``kept_b``, ``kept_both``, ``weights`` and ``matrices`` (how many are compared),
        ``left_out`` (parameters of either that are not compared, by ``;``), and both tickets' provenance as
        :func:`pair_facts` gives it. A share that is not defined, because both masks are empty, is None. A group of
        which the two have nothing in common has no row.

    Raises:
        UserError: see :func:`lnsub.analysis.overlap.counts.count` and :func:`group_columns`.
    """
    counts = tickets if isinstance(tickets, Counts) else count(tickets, over)
    by = tuple(by)
    groups = group_columns(counts.names, by)
    shared = counts.shared
    first, second = np.array(counts.pairs).T
    sums = {
        "kept_a": sum_groups(counts.kept[first] * shared, groups),
        "kept_b": sum_groups(counts.kept[second] * shared, groups),
        "kept_both": sum_groups(counts.both, groups),
        "weights": sum_groups(counts.weights * shared, groups),
        "matrices": sum_groups(shared, groups),
    }
    by_matrix = sum_groups(counts.kept[first] * shared * (counts.kept[second] / counts.weights), groups)
    named = labels(counts.tickets)
    rows = []
    for p, (i, j) in enumerate(counts.pairs):
        compared = {counts.names[m] for m in np.flatnonzero(shared[p])}
        both = counts.tickets[i].masks.keys() | counts.tickets[j].masks.keys()
        missing = group_columns(sorted(both - compared), by)
        for g, group in enumerate(groups):
            left_out = ";".join(sorted(both - compared)[m] for m in missing.get(group, ()))
            n = {key: int(values[p, g]) for key, values in sums.items()}
            if not n["matrices"]:
                continue
            density_a, density_b = n["kept_a"] / n["weights"], n["kept_b"] / n["weights"]
            jaccard = ratio(n["kept_both"], n["kept_a"] + n["kept_b"] - n["kept_both"])
            chance = chance_level(density_a, density_b)
            rows.append(
                {"a": named[i], "b": named[j]}
                | dict(zip(by, group, strict=True))
                | {"overlap": jaccard, "chance": chance, "corrected": corrected_share(jaccard, chance)}
                | {"chance_by_matrix": ratio(by_matrix[p, g], n["kept_a"] + n["kept_b"] - by_matrix[p, g])}
                | {"density_a": density_a, "density_b": density_b}
                | n
                | {"left_out": left_out}
                | pair_facts(counts.tickets[i], counts.tickets[j])
            )
    return rows


def summary(
    tickets: Sequence[Ticket], by: Iterable[str] = (), *, over: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The mean overlap of the pairs of each task and sparsity, and the overlap of all their tickets at once.

    Args:
        tickets: tickets of one base model. Inherited masks and combined tickets are ignored.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`.
        over: the parameters that count; None: those that each two tickets have. See :func:`same_parameters`.

    Returns:
        Rows for each set of :func:`comparable` tickets, group of ``by`` and ``relation`` (``all`` pairs, then each of
        :data:`RELATIONS` that occurs): ``tickets``, ``pairs``; the means over pairs ``overlap``, ``chance`` and
        ``corrected``; ``lowest`` and ``highest`` overlap. Where ``relation`` is ``all`` also the all-way overlap,
        ``all_way`` = ``kept_in_all`` / ``kept_in_any``, over the parameters that all of the tickets have, and
        ``all_way_chance``, its level for independent masks of these densities.

    Raises:
        UserError: see :func:`overlap`.
    """
    by = tuple(by)
    rows = []
    for key, members in comparable(tickets).items():
        counts = count(members, over)
        groups = group_columns(counts.names, by)
        pairs = overlap(counts, by)
        for group, columns in groups.items():
            inside = [row for row in pairs if tuple(row[b] for b in by) == group]
            for relation in ("all", *RELATIONS):
                of_it = [row for row in inside if relation in ("all", relation_of(row))]
                values = [row["overlap"] for row in of_it if row["overlap"] is not None]
                if not of_it:
                    continue
                rows.append(
                    dict(zip(COMPARABLE, key, strict=True))
                    | dict(zip(by, group, strict=True))
                    | {"relation": relation, "tickets": len(members), "pairs": len(of_it)}
                    | {share: mean(row[share] for row in of_it) for share in ("overlap", "chance", "corrected")}
                    | {"lowest": min(values, default=None), "highest": max(values, default=None)}
                    | (_all_way(counts, columns) if relation == "all" else {})
                )
    return rows


def _all_way(counts: Counts, columns: list[int]) -> dict[str, Any]:
    columns = [m for m in columns if counts.has[:, m].all()]
    every, some = int(counts.every[columns].sum()), int(counts.some[columns].sum())
    densities = counts.kept[:, columns].sum(axis=1) / max(int(counts.weights[columns].sum()), 1)
    in_all, in_none = float(densities.prod()), float((1 - densities).prod())
    return {
        "all_way": ratio(every, some),
        "all_way_chance": ratio(in_all, 1 - in_none),
        "kept_in_all": every,
        "kept_in_any": some,
    }


def comparable(tickets: Sequence[Ticket], alike: Sequence[str] = COMPARABLE) -> dict[tuple[Any, ...], list[Ticket]]:
    """Sorts tickets into sets that differ only in their runs.

    Args:
        tickets: any tickets. Inherited masks and combined tickets, which no run found, are ignored.
        alike: what the tickets of a set have in common: :data:`COMPARABLE`, or :data:`ALIKE` for tickets of shuffled
            labels among the others.

    Returns:
        By ``alike``, in sorted order, the tickets of each set that has at least two.
    """
    sets: dict[tuple[Any, ...], list[Ticket]] = {}
    for ticket in tickets:
        p = ticket.provenance
        if p.task != INHERITED and not p.sources:
            key = (p.task, p.ranked_by, p.scope, round(p.sparsity, 6), p.labels)
            sets.setdefault(key[: len(alike)], []).append(ticket)
    return {key: sets[key] for key in sorted(sets) if len(sets[key]) > 1}


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def chance_level(a: float, b: float) -> float | None:
    """The overlap of two random masks of densities ``a`` and ``b``: a b / (a + b - a b); None when both are empty."""
    return ratio(a * b, a + b - a * b)


def corrected_share(overlap: float | None, chance: float | None) -> float | None:
    """The share of what chance leaves: (overlap - chance) / (1 - chance); None where chance alone gives 1."""
    return None if overlap is None or chance is None else ratio(overlap - chance, 1 - chance)


def ratio(part: float, whole: float) -> float | None:
    """Divides; None where there is nothing to divide by, which CSV shows as empty and JSON as null."""
    return float(part / whole) if whole else None


def sum_groups(values: np.ndarray, groups: dict[tuple[str, ...], list[int]]) -> np.ndarray:
    """Adds up the last axis (M,) by group: (..., M) gives (..., number of groups)."""
    return np.stack([values[..., columns].sum(axis=-1) for columns in groups.values()], axis=-1)


def pair_facts(a: Ticket, b: Ticket) -> dict[str, Any]:
    """Gives what is known of two tickets' runs.

    Returns:
        Task, language, seed, requested sparsity, run (``seed57-sample1``) and labels of either as ``task_a``,
        ``task_b``, ``language_a``, ...; ``shared``, what they share beside the base model, see
        :func:`lnsub.analysis.overlap.shared.shared`.
    """
    facts = {
        f"{key}_{side}": getattr(ticket.provenance, key)
        for key in ("task", "language", "seed", "sparsity", "run", "labels")
        for side, ticket in (("a", a), ("b", b))
    }
    return facts | {"shared": in_words(shared(a.provenance, b.provenance))}


def labels(tickets: Sequence[Ticket]) -> list[str]:
    """Names tickets for tables: their label, with the start of the checksum where two would be named alike."""
    plain = [t.label for t in tickets]
    return [f"{n}@{t.checksum[:8]}" if plain.count(n) > 1 else n for n, t in zip(plain, tickets, strict=True)]
