"""Figures of overlap: by pair of languages with the departures beside it, by sparsity, and by layer."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from lnsub.analysis.many_comparisons import Place
from lnsub.analysis.overlap.clusters import Clusters, find_clusters, language_rows, stability_words
from lnsub.analysis.overlap.jaccard import mean
from lnsub.charts.drawing import Drawing
from lnsub.charts.heat import Shading, heat_map
from lnsub.report.collect import Material
from lnsub.report.figure import (
    Figure,
    Missing,
    Options,
    Panel,
    by_level,
    by_panel,
    joined,
    listed,
    percent,
    sparsity_name,
)
from lnsub.report.figures.marks import mark_words, overlap_tests, with_tests
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.language_pairs import equal_terms, shown_pairs
from lnsub.report.languages import labels
from lnsub.report.spread import NO_INTERVAL, seed_words

MEASURES = ("overlap", "departure_overlap")
"""The columns that are drawn."""

Marked = Mapping[str, Collection[Place]]
"""The marked cells of each of :data:`MEASURES`."""

ZEROS = "zeros kept"
"""The column of the table that marks sparsities at which ties among theta_0's zeros decide."""

NO_TICKETS = "there are no two comparable tickets (tickets/*.safetensors) of different languages"


def overlap_figure(material: Material, options: Options) -> Figure | Missing:
    """The overlap of each pair of languages, and that of their departures beside it."""
    title = "Overlap of tickets, and of their departures"
    means = material.language_pairs
    if means.empty or (means["source"] == means["target"]).all():
        return Missing(title, NO_TICKETS)
    parts = by_panel(means, material.studies, options)
    drawn = joined([rows for _, _, rows in parts])
    departs = "departure_overlap" in drawn and bool(drawn["departure_overlap"].notna().any())
    clusters = clusters_of(material)
    tests = {column: overlap_tests(material.pairs, column) for column in MEASURES}
    panels = []
    for study, sparsity, rows in parts:
        marked = {column: test.marked for column, of in tests.items() if (test := of.get((study, sparsity)))}
        place = f"{study}, {sparsity_name(sparsity)} pruned"
        near = drawn[drawn["study"] == study]
        order = clusters[study, sparsity].order if (study, sparsity) in clusters else ()
        drawing = _square(rows, near, "overlap", f"{place}: overlap", order, marked)
        panels.append(Panel(f"{place}: overlap, %", drawing, study, sparsity, group=place))
        if departs and rows["departure_overlap"].notna().any():
            drawing = _square(rows, near, "departure_overlap", f"{place}: overlap of departures", order, marked)
            panels.append(Panel(f"{place}: departures, %", drawing, study, sparsity, "departures", group=place))
    reading = (
        "Overlap is the Jaccard similarity of two masks: kept in both / kept in either. A departure is where a ticket "
        "differs from the inherited mask, the magnitude mask of the untrained base model at the same sparsity. The "
        "table has means, with the share of weights departed in, the overlap of independent departures, and how much "
        "of the overlap above chance theta_0 alone makes: what the overlap would be if departures were independent."
    )
    if (drawn["source"] == drawn["target"]).any():
        reading += " Pairs are of different seeds; on the diagonal two seeds of one language, the ceiling."
    else:
        reading += " The diagonal, a ticket with itself, is left empty."
    reading += mark_words([part[:2] for part in parts], tests["overlap"], "both languages", "pairs of one seed")
    shared = [_shared(material, study, sparsity) for study, sparsity, _ in parts]
    if any(row[ZEROS] for row in shared):
        reading += (
            f" Where “{ZEROS}” has a number, theta_0 has more zeros than are pruned, so that their order alone decides "
            "which are kept: what departs from that means nothing."
        )
    if not departs:
        reading += (
            " Departures are not drawn, as there are no inherited masks; `lnsub report --inherited` makes them from "
            "the base model."
        )
    leads = [
        (row["study"], row["sparsity"], f"{percent(row['overlap'])} (by chance {percent(row['by chance'])})")
        for row in shared
        if row["overlap"] is not None
    ]
    lead = f"Mean overlap of tickets of two languages: {by_level(leads)}." if leads else ""
    data = _facts_first(material.pairs)
    means = with_tests(means, tests["overlap"])
    more = {"overlap_by_pair": with_tests(means, tests["departure_overlap"], "departure_") if departs else means}
    if clusters:
        more["clusters"] = pd.DataFrame(
            {"study": study, "sparsity": sparsity} | row
            for (study, sparsity), found in clusters.items()
            for row in language_rows(found)
        )
        drawn_clusters = [
            (study, sparsity, cluster_words(found))
            for study, sparsity, _ in parts
            if (found := clusters.get((study, sparsity))) is not None
        ]
        reading += (
            " Languages are in the order of a tree by average linkage of 1 - overlap, neighbours alike. Clusters, cut "
            f"where two successive merges lie furthest apart: {by_level(drawn_clusters)}."
        )
    seeds = seed_words(material.pairs, ("seed_a", "seed_b"))
    return Figure("overlap", title, f"{reading} {NO_INTERVAL}", seeds, tuple(panels), data, lead, _table(shared), more)


def clusters_of(material: Material) -> dict[tuple[str, float], Clusters]:
    """The clusters of languages of each study and sparsity that has them."""
    found = {}
    for (study, sparsity), rows in material.pairs.groupby(["study", "sparsity"]) if len(material.pairs) else ():
        listed_rows = [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]
        clusters = find_clusters(listed_rows)
        if clusters is not None:
            found[str(study), float(str(sparsity))] = clusters
    return found


def cluster_words(found: Clusters) -> str:
    """Clusters in words: ``{en fr} and {ur}; their stability over seeds is unknown, ...``."""
    groups = listed([f"{{{' '.join(names)}}}" for names in found.groups])
    return f"{groups} ({stability_words(found.seeds, found.stability)})"


def _square(
    rows: pd.DataFrame, near: pd.DataFrame, column: str, label: str, order: Sequence[str], marked: Marked
) -> Drawing:
    """One matrix, shaded by the range of ``near``, the matrices that it is to be compared with; ``order`` first."""
    shading = Shading.of([100 * v for v in near[column].dropna()])
    known = rows[rows[column].notna()]
    places = zip(known["source"], known["target"], strict=True)
    there = {*rows["source"], *rows["target"]}
    languages = [*(name for name in order if name in there), *sorted(there - set(order))]
    return heat_map(
        {place: 100 * v for place, v in zip(places, known[column], strict=True)},
        languages,
        languages,
        shading,
        label=label,
        unit=f"{label.partition(': ')[2]}, %",
        names=labels(languages),
        marked=marked.get(column, ()),
    )


def _of(rows: pd.DataFrame, study: str, sparsity: float) -> pd.DataFrame:
    return rows if rows.empty else rows[(rows["study"] == study) & (rows["sparsity"] == sparsity)]


def _mean(rows: pd.DataFrame, column: str) -> float | None:
    return mean(rows[column].dropna().tolist()) if column in rows else None


def _shared(material: Material, study: str, sparsity: float) -> dict[str, Any]:
    """The mean overlaps of a study at one sparsity, None where there is none: the columns of :func:`_table`."""
    pairs, alone = _of(material.pairs, study, sparsity), _of(material.alone, study, sparsity)
    cross, (across, ceiling) = shown_pairs(pairs)[0], equal_terms(pairs)
    two_seeds = bool(len(ceiling))
    return {
        "study": study,
        "sparsity": sparsity,
        "overlap": _mean(cross, "overlap"),
        "by chance": _mean(cross, "chance"),
        "with inherited mask": _mean(alone, "overlap"),
        "weights departed": _mean(alone, "departure_share"),
        "overlap of departures": _mean(cross, "departure_overlap"),
        "if independent": _mean(cross, "null"),
        "from theta_0, of what exceeds chance": _mean(cross, "inherited_share"),
        ZEROS: _zeros(cross),
        "languages, other seeds": _mean(across, "overlap") if two_seeds else None,
        "one language, two seeds": _mean(ceiling, "overlap"),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """The mean overlaps as numbers, without columns that are empty."""
    columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    body = [
        [row["study"], sparsity_name(row["sparsity"])]
        + [
            DASH if row[column] is None else f"{row[column]:,}" if column == ZEROS else percent(row[column])
            for column in columns[2:]
        ]
        for row in rows
    ]
    return rows_table(columns, body)


def _zeros(pairs: pd.DataFrame) -> int | None:
    """The zeros of theta_0 that inherited masks keep; None where there are none, as nothing needs saying."""
    return int(pairs["zeros_kept"].max()) or None if "zeros_kept" in pairs and len(pairs) else None


def _facts_first(pairs: pd.DataFrame) -> pd.DataFrame:
    first = ["study", "sparsity", "language_a", "language_b", "seed_a", "seed_b", "relation"]
    return pairs[[*first, *(column for column in pairs.columns if column not in first)]]
