"""What a comparison of tickets means, in sentences drawn from its numbers."""

from collections.abc import Sequence
from typing import Any

from lnsub.analysis.overlap.comparison import Comparison, Rows
from lnsub.analysis.overlap.pairs import COMPARABLE, RELATIONS, comparable, labels, mean
from lnsub.tickets.ticket import Ticket


def departure_words(comparison: Comparison) -> list[str]:
    """Says how much of the tickets is inherited, and whether their departures are alike.

    Args:
        comparison: made with inherited masks.

    Returns:
        Sentences: on each set of comparable tickets and each relation of its pairs, then on what is missing. None
        without inherited masks.
    """
    if not comparison.inheritance and not comparison.aside:
        return []
    found = []
    named = dict(zip(map(id, comparison.tickets), labels(comparison.tickets), strict=True))
    alone, together = (comparison.by(rows, ()) for rows in (comparison.inheritance, comparison.pairs))
    for key, members in comparable(comparison.tickets).items():
        inside = {named[id(t)] for t in members}
        tickets = [row for row in alone if row["ticket"] in inside]
        pairs = [row for row in together if {row["a"], row["b"]} <= inside and row.get("departure_overlap") is not None]
        if tickets:
            found.append(
                f"{_set_name(key)}: the tickets overlap {_span(tickets, 'overlap', '{:.4f}')} with the mask that they "
                f"inherit from theta_0, and depart from it in {_span(tickets, 'departure_share', '{:.2%}')} of the "
                "weights."
            )
        for relation in RELATIONS:
            of_it = [row for row in pairs if row["relation"] == relation]
            if of_it:
                found.append(_departures_of(relation, of_it))
    if alone and not any("null" in row for row in together):
        found.append(
            "How much of two departures is shared by chance depends on theta_0, which was not read here: "
            "--inherited reads it from the base model."
        )
    if comparison.aside:
        found.append(
            "No inherited mask for tickets of several scopes, or that keep nothing: "
            f"{', '.join(t.label for t in comparison.aside)}."
        )
    return found


def neutrality_words(comparison: Comparison) -> list[str]:
    """Says what the neutrality indices mean, or why there are none.

    Args:
        comparison: made with indices.

    Returns:
        Sentences on each set of tickets that differ in language and seed alone.
    """
    sets = comparable(comparison.tickets)
    if not sets:
        return [
            "No neutrality index: it takes tickets of one task, score, scope and sparsity, of two languages or more, "
            "and of two seeds of at least one language; no two of these tickets are such."
        ]
    found = []
    indices = comparison.by(comparison.indices, ())
    for key, members in sets.items():
        rows = {row["measure"]: row for row in indices if tuple(row[c] for c in COMPARABLE) == key}
        seeds = len({t.provenance.seed for t in members})
        if not rows:
            found.append(f"{_set_name(key)}: {_no_index(members, seeds)}")
        else:
            found.append(f"{_set_name(key)}: {_index(rows['overlap'], seeds)}")
            if "departure_overlap" in rows:
                found.append(_departure_index(rows["departure_overlap"]))
    return found


def _departures_of(relation: str, pairs: Rows) -> str:
    many = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}"
    text = f"{relation} ({many}): departures overlap {mean(row['departure_overlap'] for row in pairs):.4f}"
    if "null" not in pairs[0]:
        return f"{text}."
    above = sum(row["departure_overlap"] > row["null_high"] for row in pairs)
    return (
        f"{text}, where departures independent given theta_0 would overlap {mean(row['null'] for row in pairs):.4f}; "
        f"{above} of {len(pairs)} above the 95 % interval of that."
    )


def _index(row: dict[str, Any], seeds: int) -> str:
    text = (
        f"tickets of different languages overlap {row['cross']:.4f}, those of one language {row['ceiling']:.4f}, both "
        f"over pairs of different seeds; so the neutrality index is {row['index']:.4f}"
    )
    low, high = row["index_low"], row["index_high"]
    if low is None:
        text += ". It has no interval, which takes three languages or three seeds, so it may well be noise."
    else:
        text += f", 95 % interval {low:.4f} to {high:.4f} ({row['languages']} languages, {seeds} seeds). "
        text += _against_one(low, high)
        if min(seeds, row["languages"]) == 2:
            fixed, varied = ("seeds", "languages") if seeds == 2 else ("languages", "seeds")
            text += f" With two {fixed} the interval varies the {varied} alone and is too narrow: add a third."
    if row["cross_same_seed"] is not None:
        text += (
            f" Runs of one seed share the head's initial values and the order of the data: across languages these "
            f"overlap {row['cross_same_seed']:.4f}, which is not held against the ceiling."
        )
    return text


def _departure_index(row: dict[str, Any]) -> str:
    if row["index"] is None:
        return "Of the departures alone, the index is not defined: no departure is shared by two seeds of a language."
    text = (
        f"Of the departures alone, which theta_0 does not give: {row['cross']:.4f} across languages, "
        f"{row['ceiling']:.4f} within one; index {row['index']:.4f}"
    )
    low, high = row["index_low"], row["index_high"]
    return f"{text}." if low is None else f"{text}, {low:.4f} to {high:.4f}. {_against_one(low, high)}"


def _against_one(low: float, high: float) -> str:
    if high < 1:
        return "It lies below 1: another language changes a ticket more than another seed does."
    if low > 1:
        return "It lies above 1: languages differ less than seeds of one, for which there may be too few runs."
    return "The interval holds 1: these runs do not show that another language changes a ticket more than a seed does."


def _no_index(members: Sequence[Ticket], seeds: int) -> str:
    languages = len({t.provenance.language for t in members})
    have = f"here are {languages} language{'s'[: languages > 1]} and {seeds} seed{'s'[: seeds > 1]}"
    if languages < 2:
        return f"no neutrality index, which takes two languages or more; {have}. Add tickets of another language."
    return (
        "no neutrality index, which takes two seeds of at least one language, as the ceiling that noise allows; "
        f"{have}{', never two of one language' if seeds > 1 else ''}. Find tickets with another seed."
    )


def _set_name(key: tuple[Any, ...]) -> str:
    task, score, scope, sparsity = key
    return f"{task} at sparsity {sparsity:.2f} ({score}, {scope})"


def _span(rows: Rows, column: str, form: str) -> str:
    values = [row[column] for row in rows if row[column] is not None]
    ends = dict.fromkeys(form.format(end) for end in (min(values), max(values))) if values else ("not at all",)
    return " to ".join(ends)
