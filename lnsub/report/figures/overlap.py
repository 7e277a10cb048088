"""Figures of overlap: by pair of languages with the departures beside it, by sparsity, and by layer."""

import pandas as pd

from lnsub.analysis.overlap.pairs import mean
from lnsub.report.collect import Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    at,
    by_level,
    by_study,
    joined,
    nearest,
    percent,
    sparsity_name,
)
from lnsub.report.heatmap import Shading, heat_map
from lnsub.report.languages import label as language_label
from lnsub.report.pairs import equal_terms, shown_pairs

NO_TICKETS = "there are no two comparable tickets (tickets/*.safetensors) of different languages"


def overlap_figure(material: Material, options: Options) -> Figure | Missing:
    """The overlap of each pair of languages, and that of their departures beside it."""
    title = "Overlap of tickets, and of their departures"
    means = material.language_pairs
    if means.empty or (means["source"] == means["target"]).all():
        return Missing(title, NO_TICKETS)
    parts = [
        (study, sparsity, rows[rows["sparsity"] == sparsity])
        for study, rows in by_study(means, material.studies)
        for sparsity in nearest(rows["sparsity"], options.sparsities)
    ]
    drawn = joined([rows for _, _, rows in parts])
    departs = "departure_overlap" in drawn and bool(drawn["departure_overlap"].notna().any())
    panels, findings, keys = [], [], []
    for measure, name in (("overlap", "overlap"), ("departure_overlap", "overlap of departures"))[: 1 + departs]:
        for study, rows in by_study(drawn[drawn[measure].notna()], material.studies):
            keys.append(Shading.of([100 * v for v in rows[measure]]).key(f"%: {study}, {name}"))
    for study, sparsity, rows in parts:
        place = f"{study}, {sparsity_name(sparsity)} pruned"
        near = drawn[drawn["study"] == study]
        panels.append(Panel(f"{place}: overlap, %", _square(rows, near, "overlap", f"{place}: overlap"), group=place))
        if departs and rows["departure_overlap"].notna().any():
            svg = _square(rows, near, "departure_overlap", f"{place}: overlap of departures")
            panels.append(Panel(f"{place}: departures, %", svg, group=place))
        findings += _shared(material, study, sparsity)
    reading = (
        "Overlap is the Jaccard similarity of two masks: kept in both / kept in either. A departure is where a ticket "
        "differs from the inherited mask, the magnitude mask of the untrained base model at the same sparsity."
    )
    if (drawn["source"] == drawn["target"]).any():
        reading += " Pairs are of different seeds; on the diagonal two seeds of one language, the ceiling noise allows."
    else:
        reading += " The diagonal, a ticket with itself, is left empty."
    if not departs:
        reading += (
            " Departures are not drawn, as there are no inherited masks; `lnsub report --inherited` makes them from "
            "the base model."
        )
    lead = _lead(material, [(study, sparsity) for study, sparsity, _ in parts])
    data = _facts_first(material.pairs)
    return Figure("overlap", title, reading, tuple(panels), "".join(keys), data, lead, tuple(findings))


def _square(rows: pd.DataFrame, near: pd.DataFrame, column: str, label: str) -> str:
    """One matrix; its shading is that of ``near``, the matrices that it is to be compared with."""
    shading = Shading.of([100 * v for v in near[column].dropna()])
    known = rows[rows[column].notna()]
    places = zip(known["source"], known["target"], strict=True)
    languages = sorted({*rows["source"], *rows["target"]})
    return heat_map(
        {place: 100 * v for place, v in zip(places, known[column], strict=True)},
        languages,
        languages,
        shading,
        label=label,
        row_label=language_label,
    )


def _of(rows: pd.DataFrame, study: str, sparsity: float) -> pd.DataFrame:
    return rows if rows.empty else rows[(rows["study"] == study) & (rows["sparsity"] == sparsity)]


def _mean(rows: pd.DataFrame, column: str) -> float | None:
    return mean(rows[column].dropna().tolist()) if column in rows else None


def _lead(material: Material, parts: list[tuple[str, float]]) -> str:
    """How far tickets overlap, and how much of that is inherited, in words."""
    overlaps, inherited, departures, alike = [], [], [], 0
    for study, sparsity in parts:
        cross, alone = shown_pairs(_of(material.pairs, study, sparsity))[0], _of(material.alone, study, sparsity)
        overlap, chance, departed = (_mean(cross, column) for column in ("overlap", "chance", "departure_overlap"))
        if overlap is None or chance is None:
            continue
        overlaps.append((study, sparsity, f"{percent(overlap)} (by chance {percent(chance)})"))
        own = _mean(alone, "overlap")
        if own is not None and departed is not None:
            inherited.append((study, sparsity, percent(own)))
            departures.append((study, sparsity, percent(departed)))
            alike += overlap <= own
    text = f"Tickets of two languages overlap, on average: {by_level(overlaps)}."
    if inherited:
        text += f" With the mask that they inherit from the untrained base model they overlap: {by_level(inherited)}; "
        text += f"in {alike} of {len(inherited)} cases they are no more like each other than like that mask. Their "
        text += f"departures from it overlap: {by_level(departures)}."
    return text


def _shared(material: Material, study: str, sparsity: float) -> list[str]:
    """The same in particular, for one study and sparsity."""
    pairs, alone = _of(material.pairs, study, sparsity), _of(material.alone, study, sparsity)
    cross, _ = shown_pairs(pairs)
    overlap, own = _mean(cross, "overlap"), _mean(alone, "overlap")
    if overlap is None:
        return []
    place = at(study, sparsity)
    ranked = cross.sort_values("overlap")
    low, high = ranked.iloc[0], ranked.iloc[-1]
    text = f"{place}: {low['language_a']} and {low['language_b']} overlap least ({percent(low['overlap'])})"
    found = [f"{text}, {high['language_a']} and {high['language_b']} most ({percent(high['overlap'])})."]
    across, ceiling = equal_terms(pairs)
    if len(ceiling):
        found.append(
            f"{place}, pairs of different seeds: tickets of two languages overlap "
            f"{percent(_mean(across, 'overlap') or 0.0)}, of one language {percent(_mean(ceiling, 'overlap') or 0.0)}."
        )
    departed = _mean(cross, "departure_overlap")
    if own is None or departed is None:
        return found
    text = (
        f"{place}: tickets are {'no more' if overlap <= own else 'more'} like each other than like the inherited mask; "
    )
    text += f"they depart from it in {percent(_mean(alone, 'departure_share') or 0.0)} of the weights"
    null = _mean(cross, "null")
    if null is not None:
        text += f", and independent departures would overlap {percent(null)}"
    return [*found, text + "."]


def _facts_first(pairs: pd.DataFrame) -> pd.DataFrame:
    first = ["study", "sparsity", "language_a", "language_b", "seed_a", "seed_b", "relation"]
    return pairs[[*first, *(column for column in pairs.columns if column not in first)]]
