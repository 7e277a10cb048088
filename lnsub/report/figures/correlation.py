"""Overlap against transfer: a point a pair of languages, with the correlation."""

from typing import Any

import pandas as pd

from lnsub.analysis.correlation import FEWEST, correlation
from lnsub.charts.lines import Dot, point_cloud
from lnsub.charts.text import number
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_study, nearest, pruned_name, sparsity_name
from lnsub.report.figures.transfer import cells_of
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.metric_text import named
from lnsub.report.spread import PERMUTED, seed_words, seeds_of

LEVEL = 0.05
"""The p up to which a correlation counts as shown."""

_NUMBERS = {"value": 2, "centred": 2, "p": 3}  # decimals of the table's columns
_MEASURES = {"overlap": "overlap", "departure_overlap": "overlap of departures"}


def overlap_against_transfer(material: Material, options: Options) -> Figure | Missing:
    """A point a pair of languages: how far their tickets overlap, and how well the one serves the other."""
    title = "Overlap against transfer"
    points = _points(material)
    if points.empty:
        return Missing(
            title, "it takes tickets of two languages or more (tickets/*.safetensors) and transfer records between them"
        )
    shown = {study: nearest(rows["sparsity"], options.sparsities) for study, rows in by_study(points, material.studies)}
    order = [pruned_name(s) for s in sorted({s for chosen in shown.values() for s in chosen})]
    panels, found = [], list[dict[str, Any]]()
    for study, rows in by_study(points, material.studies):
        metric = material.metrics[study]
        for measure, name in _MEASURES.items():
            known = rows[rows[measure].notna()] if measure in rows else rows[:0]
            for sparsity, part in known.groupby("sparsity"):
                facts = {"study": study, "metric": metric.name, "higher_is_better": metric.higher_is_better}
                facts |= {"sparsity": sparsity, "measure": measure}
                pairs = list(zip(part["source"], part["target"], strict=True))
                found += [facts | row for row in correlation(list(part[measure]), list(part["relative"]), pairs)]
            drawn = known[known["sparsity"].isin(shown[study])]
            if not drawn.empty:
                drawing = point_cloud(
                    [_dot(row, measure) for row in drawn.to_dict("records")],
                    label=f"{study}: relative change of {named(metric)} against {name}",
                    x_label=f"{name} of source and target, %",
                    y_label=f"{named(metric)} against the target's own, %",
                    order=order,
                )
                panels.append(Panel(f"{study}: {name}", drawing, study, part=name))
    reading = (
        "A point for each source and target: across, the overlap of their tickets; upwards, how far the source's "
        "ticket lies above or below the target's own on the target, relative to it. The table has Pearson's and "
        "Spearman's correlation of the two at each sparsity; where a lower metric is better, a negative one means that "
        "more overlap goes with better transfer. Pairs share languages, so “centred” is the correlation with effects "
        f"of source and target taken out, and p is {PERMUTED}; it takes {FEWEST} languages, and does not speak of "
        "other seeds."
    )
    main = [row for row in found if row["sparsity"] in shown[row["study"]] and row["coefficient"] == "pearson"]
    return Figure(
        "overlap_against_transfer",
        title,
        reading,
        f"{seeds_of(material, _fits(material))} Of the tickets: "
        f"{seed_words(material.pairs, ('seed_a', 'seed_b')).removeprefix('Seeds: ')}",
        tuple(panels),
        points,
        _lead(main),
        _table(found),
        {"correlations": pd.DataFrame(found)},
    )


def _points(material: Material) -> pd.DataFrame:
    """A row a study, sparsity, source and target: the overlap of their tickets, and the transfer cell."""
    cells, pairs = cells_of(material), material.language_pairs
    if cells.empty or pairs.empty:
        return pd.DataFrame()
    cells = cells[cells["abroad"] & cells["relative"].notna()]
    return cells.merge(pairs, on=["study", "sparsity", "source", "target"])


def _fits(material: Material) -> pd.DataFrame:
    records = material.records
    return records[(records["kind"] == "transfer") & (records["variant"] == "ticket")]


def _dot(row: dict[Any, Any], measure: str) -> Dot:
    x, y = 100 * row[measure], 100 * row["relative"]
    return Dot(row["source"], row["target"], x, y, pruned_name(row["sparsity"]))


def _lead(rows: list[dict[str, Any]]) -> str:
    """In how many cases more overlap goes with better or worse transfer, by the test."""
    known = [row for row in rows if row["measure"] == "overlap" and row["p"] is not None]
    shown = [row for row in known if row["p"] <= LEVEL]
    better = sum((row["centred"] > 0) == row["higher_is_better"] for row in shown)
    return (
        f"Of {len(known)} correlations of overlap with transfer (a study and sparsity each), {better} show that more "
        f"overlap goes with better transfer, and {len(shown) - better} with worse."
        if known
        else ""
    )


def _table(found: list[dict[str, Any]]) -> str:
    head = ("study", "sparsity", "of", "coefficient", "r", "centred", "p", "pairs", "languages")
    body = [
        (
            row["study"],
            sparsity_name(row["sparsity"]),
            _MEASURES[row["measure"]],
            row["coefficient"].title(),
            *(DASH if row[column] is None else number(row[column], places) for column, places in _NUMBERS.items()),
            str(row["pairs"]),
            str(row["languages"]),
        )
        for row in found
    ]
    return rows_table(head, body, folded=f"All {len(body)} correlations")
