"""What tickets inherit from theta_0, and how far they depart from it alike: the rows beside every overlap.

:mod:`lnsub.analysis.overlap.departure` defines departures and their null, and counts them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lnsub.analysis.overlap.departure import Departures, Null, count_departures
from lnsub.analysis.overlap.jaccard import chance_level, corrected_share, labels, pair_facts, ratio, sum_groups
from lnsub.common.errors import UserError
from lnsub.tickets.inherited import served_by
from lnsub.tickets.parameters import group_columns
from lnsub.tickets.ticket import Ticket


def inheritance(
    tickets: Sequence[Ticket],
    inherited: Sequence[Ticket],
    by: Iterable[str] = (),
    *,
    over: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """How much of each ticket is inherited, and how large its departure is.

    Args:
        tickets: tickets of one base model, of any sparsities.
        inherited: inherited masks, one for each sparsity and scope of the tickets; see :func:`departures`.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`.
        over: the parameters that count; None: all that a ticket and its inherited mask have.

    Returns:
        One row for each ticket and group, in the tickets' order: ``ticket`` (label), the columns of ``by``,
        ``overlap`` with the inherited mask, its ``chance`` and ``corrected`` share, ``departure`` (weights),
        ``departure_share`` (of all compared weights), ``kept_though_small``, ``pruned_though_large`` (weights, which
        add up to the departure), ``weights``, ``left_out`` (parameters of it that are not compared, by ``;``), and
        ``task``, ``language``, ``seed`` and ``sparsity``.

    Raises:
        UserError: see :func:`departures`.
    """
    by = tuple(by)
    rows: list[tuple[int, dict[str, Any]]] = []
    for places, counted, named in _by_inherited(tickets, inherited, None, 1, over=over):
        groups = group_columns(counted.names, by)
        sizes = sum_groups(counted.sizes, groups)
        kept = sum_groups(counted.kept * counted.has, groups)
        weights = sum_groups(counted.weights * counted.has, groups)
        for t, place in enumerate(places):
            for g, group in enumerate(groups):
                small, large, base, n = (int(x) for x in (*sizes[t, :, g], kept[t, g], weights[t, g]))
                if not n:
                    continue
                overlap = ratio(base - large, base + small)
                chance = chance_level((base - large + small) / n, base / n)
                row: dict[str, Any] = {"ticket": named[t], **dict(zip(by, group, strict=True))}
                row |= {"overlap": overlap, "chance": chance, "corrected": corrected_share(overlap, chance)}
                row |= {"departure": small + large, "departure_share": (small + large) / n}
                row |= {"kept_though_small": small, "pruned_though_large": large, "weights": n}
                row |= {"left_out": _left_out(counted, t)}
                row |= {
                    key: getattr(tickets[place].provenance, key) for key in ("task", "language", "seed", "sparsity")
                }
                rows.append((place, row))
    return [row for _, row in sorted(rows, key=lambda placed: placed[0])]


def departures(
    tickets: Sequence[Ticket],
    inherited: Sequence[Ticket],
    theta_0: Mapping[str, np.ndarray] | None = None,
    by: Iterable[str] = (),
    *,
    null: Null = "magnitude",
    over: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The departure overlap of each pair of tickets of one sparsity and scope, beside what they inherit and the null.

    Args:
        tickets: tickets of one base model, of any sparsities; those of different sparsity or scope are not compared.
        inherited: inherited masks, one for each sparsity and scope of the tickets. Where models of different tasks
            have different parameters, their thresholds differ a little; then give one for each set of parameters, and
            each ticket is held against the smallest that has all of its own. Tickets with different inherited masks
            are not compared.
        theta_0: the base model's weights by parameter name, as float arrays; any mapping that reads them one by one
            will do. Without it the null only knows matrix and direction, and is far too low: flips gather near the
            threshold, in any run.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`.
        null: what flips depend on by themselves; see :func:`lnsub.analysis.overlap.departure.count_departures`.
        over: the parameters that count; None: all that each two and their inherited mask have.

    Returns:
        One row for each pair and group: ``a``, ``b`` (labels), the columns of ``by``, ``overlap``, ``inherited_a`` and
        ``inherited_b`` (each ticket's overlap with the inherited mask), ``departure_a`` and ``departure_b`` (weights),
        ``departure_overlap``, its ``null`` (the overlap of departures independent given theta_0),
        ``departure_corrected`` = (departure_overlap - null) / (1 - null), ``overlap_null`` (the overlap of the tickets
        themselves if that were so), ``inherited_share`` = (overlap_null - chance) / (overlap - chance), the share of
        the overlap above chance that comes from theta_0, ``departed_both`` and ``expected_both`` (weights),
        ``weights``, ``zeros_kept`` (zeros of theta_0 that the inherited mask keeps), ``left_out``, and the facts of
        :func:`pair_facts`.

    Raises:
        UserError: a ticket has no inherited mask of its sparsity and scope, or the base models or shapes differ.
        ValueError: a theta_0 does not fit; see :func:`lnsub.analysis.overlap.departure.count_departures`.
    """
    by = tuple(by)
    rows = []
    for places, counted, named in _by_inherited(tickets, inherited, theta_0, 2, null, over):
        groups = group_columns(counted.names, by)
        pairs = list(combinations(range(len(places)), 2))
        first, second = np.array(pairs).T
        shared = counted.has[first] & counted.has[second]
        masked = shared[:, None, :]
        sums = {
            "weights": sum_groups(counted.weights * shared, groups)[:, None],
            "kept": sum_groups(counted.kept * shared, groups)[:, None],
            "a": sum_groups(counted.sizes[first] * masked, groups),
            "b": sum_groups(counted.sizes[second] * masked, groups),
            "both": sum_groups(counted.both, groups),
            "expected": sum_groups(counted.expected, groups),
            "zeros_kept": sum_groups(counted.zeros_kept * shared, groups)[:, None],
        }
        for p, (i, j) in enumerate(pairs):
            for g, group in enumerate(groups):
                if not sums["weights"][p, 0, g]:
                    continue
                row = {"a": named[i], "b": named[j], **dict(zip(by, group, strict=True))}
                row |= _pair_row({key: values[p, :, g] for key, values in sums.items()})
                row |= {"left_out": _left_out(counted, i, j)}
                rows.append(row | pair_facts(counted.tickets[i], counted.tickets[j]))
    return rows


def _pair_row(n: dict[str, np.ndarray]) -> dict[str, Any]:
    """The shares of one pair and group, from counts by direction: kept though small, then pruned though large."""
    kept, weights = int(n["kept"][0]), int(n["weights"][0])
    a, b, both = int(n["a"].sum()), int(n["b"].sum()), int(n["both"].sum())
    expected = float(n["expected"].sum())

    # Kept in both: inherited and pruned by neither, or small and kept by both. Kept in either: likewise.
    def overlap_with(both: np.ndarray) -> float | None:
        kept_both = kept - float(n["a"][1] + n["b"][1] - both[1]) + float(both[0])
        return ratio(kept_both, kept - float(both[1]) + float(n["a"][0] + n["b"][0] - both[0]))

    densities = [(kept - int(n[side][1]) + int(n[side][0])) / weights for side in "ab"]
    found, implied, chance = overlap_with(n["both"]), overlap_with(n["expected"]), chance_level(*densities)

    def jaccard(shared: float) -> float | None:
        return ratio(shared, a + b - shared)

    null = jaccard(expected)
    return {
        "overlap": found,
        "inherited_a": ratio(kept - int(n["a"][1]), kept + int(n["a"][0])),
        "inherited_b": ratio(kept - int(n["b"][1]), kept + int(n["b"][0])),
        "departure_a": a,
        "departure_b": b,
        "departure_overlap": jaccard(both),
        "null": null,
        "departure_corrected": corrected_share(jaccard(both), null),
        "overlap_null": implied,
        "inherited_share": None
        if found is None or implied is None or chance is None
        else ratio(implied - chance, found - chance),
        "departed_both": both,
        "expected_both": expected,
        "weights": weights,
        "zeros_kept": int(n["zeros_kept"][0]),
    }


def _left_out(counted: Departures, *members: int) -> str:
    """The parameters that some of these tickets have, and that not all of them and the inherited mask have."""
    held = [set(counted.tickets[t].masks) for t in members]
    return ";".join(sorted(set.union(*held) - set.intersection(set(counted.names), *held)))


def _by_inherited(
    tickets: Sequence[Ticket],
    inherited: Sequence[Ticket],
    theta_0: Mapping[str, np.ndarray] | None,
    at_least: int,
    null: Null = "magnitude",
    over: Collection[str] | None = None,
) -> Iterator[tuple[list[int], Departures, list[str]]]:
    """Counts departures for each inherited mask in turn: the tickets' positions, the counts, and their labels."""
    named = labels(tickets)
    members: dict[int, list[int]] = {}
    for place, ticket in enumerate(tickets):
        members.setdefault(_inherited_of(ticket, inherited), []).append(place)
    for choice, places in members.items():
        if len(places) >= at_least:
            counted = count_departures([tickets[p] for p in places], inherited[choice], theta_0, null=null, over=over)
            yield places, counted, [named[p] for p in places]


def _inherited_of(ticket: Ticket, inherited: Sequence[Ticket]) -> int:
    """Finds a ticket's inherited mask: of those that serve all of its parameters the smallest, or else the largest."""
    p = ticket.provenance
    fitting = [
        i
        for i, base in enumerate(inherited)
        if round(base.provenance.sparsity - p.sparsity, 6) == 0
        and (base.provenance.scope, base.provenance.units) == (p.scope, p.units)
    ]
    if not fitting:
        what = p.scope if p.granularity == "weight" else f"{p.scope}, of {p.granularity}s"
        raise UserError(
            f"there is no inherited mask for ticket {ticket.where}: make the magnitude mask of theta_0 at sparsity "
            f"{p.sparsity:g}, scope {what} (`lnsub overlap --inherited` does)"
        )
    served = {i: served_by(inherited[i]) for i in fitting}
    covering = [i for i in fitting if ticket.masks.keys() <= served[i]]
    return min(covering, key=lambda i: len(served[i])) if covering else max(fitting, key=lambda i: len(served[i]))
