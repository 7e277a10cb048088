"""What a comparison of tickets shows, in sentences: below the tables of :mod:`lnsub.analysis.overlap.text`."""

from typing import Any

from lnsub.analysis.overlap.clusters import stability_words
from lnsub.analysis.overlap.comparison import Comparison, Rows
from lnsub.analysis.overlap.jaccard import ALIKE, COMPARABLE, comparable, labels, mean
from lnsub.analysis.overlap.shared import RELATIONS

Row = dict[str, Any]

HEADLINE = "departure_corrected"
"""The measure whose neutrality index counts, where theta_0 is known."""

_MEASURES = {HEADLINE: "departures above their null", "departure_overlap": "departures"}


def coverage(rows: Rows, unit: str) -> str:
    """Over how many weights pairs were compared, and which parameters were left out of all of them."""

    def span(column: str) -> str:
        ends = sorted({min(row[column] for row in rows), max(row[column] for row in rows)})
        return " to ".join(f"{end:,}" for end in ends)

    left_out = sorted({name for row in rows for name in row["left_out"].split(";") if name})
    where = "matrices" if unit == "weight" else "places"
    text = f"Compared over {span('weights')} {unit}s in {span('matrices')} {where}"
    return (
        f"{text}; left out, as not all tickets and masks here have it: {', '.join(left_out)}."
        if left_out
        else f"{text}."
    )


def departures_named(comparison: Comparison) -> list[str]:
    """How far departures overlap in each set of comparable tickets, by the relation of the pairs."""
    named = dict(zip(map(id, comparison.tickets), labels(comparison.tickets), strict=True))
    known = [row for row in comparison.by(comparison.pairs, ()) if row.get("departure_overlap") is not None]
    found = []
    for key, members in comparable(comparison.tickets).items():
        inside = {named[id(ticket)] for ticket in members}
        parts = []
        for relation in RELATIONS:
            pairs = [row for row in known if row["relation"] == relation and {row["a"], row["b"]} <= inside]
            if pairs:
                text = f"{relation}, {mean(row['departure_overlap'] for row in pairs):.4f}"
                if "null" in pairs[0]:
                    text += f" (null {mean(row['null'] for row in pairs):.4f})"
                parts.append(text)
        found += [f"{_set_name(key)}: mean overlap of departures: {'; '.join(parts)}."] if parts else []
        found += _inherited(key, [row for row in known if {row["a"], row["b"]} <= inside])
    return found


def _inherited(key: tuple[Any, ...], pairs: Rows) -> list[str]:
    """How much of the overlap of a set's pairs comes from theta_0, and whether ties among its zeros decided that."""
    found = []
    share = mean(row.get("inherited_share") for row in pairs)
    if share is not None:
        found.append(f"{_set_name(key)}: theta_0 alone makes {100 * share:.1f} % of the overlap above chance.")
    zeros = max((row.get("zeros_kept") or 0 for row in pairs), default=0)
    if zeros:
        found.append(
            f"{_set_name(key)}: theta_0 has more zeros than are pruned, so {zeros:,} of them are kept for their place "
            "alone: which, and what departs from that, means nothing."
        )
    return found


def verdicts(comparison: Comparison) -> list[str]:
    """What the headline among the neutrality indices of each set of comparable tickets shows."""
    found: dict[tuple[Any, ...], str] = {}
    for row in comparison.by(comparison.indices, ()):
        key = tuple(row[column] for column in COMPARABLE)
        if key not in found:
            of = "" if row["measure"] == "overlap" else f" of {_MEASURES[row['measure']]}"
            index = "not defined" if row["index"] is None else f"{row['index']:.4f}"
            found[key] = f"{_set_name(key)}: neutrality index{of} {index}; {_verdict(row)}."
    return list(found.values())


def _verdict(row: Row) -> str:
    low, high = row["index_low"], row["index_high"]
    if low is None:
        return f"no interval, so it may well be noise ({row['interval']})"
    if low <= 1 <= high:
        return "its interval holds 1, so no difference between languages is shown"
    return f"languages differ {'more' if high < 1 else 'less'} than seeds of one language"


def contrasts_named(comparison: Comparison) -> list[str]:
    """What the headline of each contrast over all weights says, and what else its two means differ in."""
    found: dict[tuple[Any, ...], str] = {}
    for row in comparison.by(comparison.contrasts, ()):
        key = tuple(row[column] for column in (*ALIKE, "runs_a", "runs_b"))
        if key not in found:
            found[key] = f"{_set_name((*key[:4], ''))}, {row['runs_a']} with {row['runs_b']}: {contrast_words(row)}."
    return list(found.values())


def contrast_words(row: Row) -> str:
    """A contrast of language with data sample in words: its number, interval, p, and what confounds it."""
    what = {"overlap": "overlap", "corrected": "corrected overlap"}.get(row["measure"])
    what = what or f"overlap of {_MEASURES[row['measure']]}"
    text = f"{what}, one language less two: {row['difference']:.4f}"
    if row["difference_low"] is not None:
        text += f" (95 % {row['difference_low']:.4f} to {row['difference_high']:.4f})"
    text += f", p {row['p']:.2g}, at least {row['smallest_p']:.2g} with {row['languages']} languages"
    if "rows" in set(row["shared_same"].split(" + ")) - set(row["shared"].split(" + ")):
        text += "; runs of one language share their rows too, so this is not of the language alone"
    return text


def clusters_named(rows: Rows) -> list[str]:
    """The clusters of each set of comparable tickets in a sentence, with how stable they are."""
    sets: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        sets.setdefault(tuple(row[column] for column in COMPARABLE), []).append(row)
    found = []
    for key, members in sets.items():
        groups: dict[int, list[str]] = {}
        for row in members:
            groups.setdefault(row["cluster"], []).append(row["language"])
        shown = ", ".join(f"{{{' '.join(names)}}}" for names in groups.values())
        found.append(f"{_set_name(key)}: {shown}; {stability_words(members[0]['seeds'], members[0]['stability'])}.")
    return found


def _set_name(key: tuple[Any, ...]) -> str:
    task, score, scope, sparsity, labels_of = key
    trained = f", {labels_of} labels" if labels_of else ""
    return f"{task} at sparsity {sparsity:.2f} ({score}, {scope}{trained})"
