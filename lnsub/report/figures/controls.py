"""Controls: how alike tickets are by what they share, and language against data sample."""

from itertools import combinations
from typing import Any

import pandas as pd

from lnsub.analysis.overlap.by_shared import class_means
from lnsub.analysis.overlap.contrast import contrast_rows
from lnsub.analysis.overlap.shared import GIVEN, is_plain
from lnsub.charts.intervals import Mean, interval_rows
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_study, nearest, pruned_name, sparsity_name
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.spread import LANGUAGES_LEFT_OUT, seed_words

TITLE = "Controls: what tickets that are alike have in common"

NONE_THERE = (
    "all tickets are of plain runs; those of runs under a condition, such as another sample of rows, another head or "
    "shuffled labels, tell what makes tickets alike"
)

MEASURES = {
    "departure_corrected": "departure overlap above its null, %",
    "departure_overlap": "departure overlap, %",
    "overlap": "overlap, %",
    "corrected": "overlap above chance, %",
}
"""The measures of a pair, and what an axis calls them; the first that pairs have is drawn."""


def controls_figure(material: Material, options: Options) -> Figure | Missing:
    """The mean of each class of pairs by what they share, and the contrasts of every two sets of runs."""
    if material.controls.empty or all(map(is_plain, _dicts(material.controls))):
        return Missing(TITLE, NONE_THERE)
    classes, contrasts = [], []
    for study, found in by_study(material.controls, material.studies):
        for sparsity, rows in found.groupby("sparsity"):
            pairs, about = _dicts(rows), {"study": study, "sparsity": sparsity}
            classes += [about | row for row in class_means(pairs)]
            contrasts += [about | row for row in _contrasts(pairs)]
    data = pd.DataFrame(classes)
    measure = next(measure for measure in MEASURES if measure in set(data["measure"]))
    drawn = data[data["measure"] == measure]
    panels = [
        panel for study, rows in by_study(drawn, material.studies) for panel in _panels(study, rows, MEASURES[measure])
    ]
    reading = (
        "Pairs of tickets by what the two have in common beside the base model: the initial head, the order of the "
        "data (with dropout), the training rows, the language. In panels of their own: pairs of which the labels of "
        "one or of both were shuffled, which is the floor. Points are means in which every language, or every two, "
        f"counts once; strokes: {LANGUAGES_LEFT_OUT}. The table below holds one language against two for every two "
        "sets of runs, over pairs that share the same otherwise: p is the share of all pairings of the languages of "
        "the two sets whose mean is as high as that of each language with itself. These p are not adjusted for their "
        "number."
    )
    shown = pd.DataFrame(row for row in contrasts if row["measure"] == measure)
    more = {"contrasts": pd.DataFrame(contrasts)} if contrasts else {}
    seeds = seed_words(material.controls, ("seed_a", "seed_b"))
    table = _table(shown, options) if len(shown) else ""
    return Figure("controls", TITLE, reading, seeds, tuple(panels), data, _lead(drawn, measure, options), table, more)


def _contrasts(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The contrasts of every two sets of runs with given labels."""
    runs = {row[f"run_{side}"] for row in pairs for side in "ab" if not row[f"labels_{side}"]}
    return [row for two in combinations(sorted(runs), 2) for row in contrast_rows(pairs, two)]


def _panels(study: str, rows: pd.DataFrame, x_label: str) -> list[Panel]:
    """A panel for pairs of given labels, and one for each kind of shuffled ones, which are shown by fewer pairs."""
    order = [pruned_name(sparsity) for sparsity in sorted(set(rows["sparsity"]))]
    ends = [100 * float(end) for column in ("mean", "low", "high") for end in rows[column].dropna()]
    span = min(*ends, 0.0), max(*ends, 0.0)
    panels = []
    for trained_on, of_labels in rows.groupby("trained_on", sort=False):
        title = f"{study}: pairs by what they share" + ("" if trained_on == GIVEN else f", labels {trained_on}")
        classes: dict[str, dict[str, Mean]] = {}
        for row in _dicts(of_labels):
            low, high = (None if pd.isna(row[end]) else 100 * row[end] for end in ("low", "high"))
            name = row["shared"].replace(" + ", ", ")
            classes.setdefault(name, {})[pruned_name(row["sparsity"])] = Mean(100 * row["mean"], low, high)
        drawing = interval_rows(
            classes, label=title, x_label=x_label, order=order, head="shared", span=span, levels=True
        )
        panels.append(Panel(title, drawing, study, part=str(trained_on), group=study))
    return panels


def _lead(rows: pd.DataFrame, measure: str, options: Options) -> str:
    """The classes that decide: one language on other rows, and two languages, with the same head and without."""
    asked = {
        "head + order + language": "one language, same head, other rows",
        "head + order": "two languages, same head",
        "nothing": "two languages, nothing shared",
    }
    parts = []
    for study, of_study in rows.groupby("study"):
        for sparsity in nearest(of_study["sparsity"], options.sparsities):
            level = of_study[(of_study["sparsity"] == sparsity) & (of_study["trained_on"] == GIVEN)]
            means = dict(zip(level["shared"], level["mean"], strict=True))
            found = [
                f"{100 * means[shared]:.1f}\u00a0% ({words})" for shared, words in asked.items() if shared in means
            ]
            parts += [(str(study), sparsity, ", ".join(found))] if found else []
    what = MEASURES[measure].removesuffix(", %")
    return f"{what[0].upper()}{what[1:]}: {by_level(parts)}." if parts else ""


def _table(rows: pd.DataFrame, options: Options) -> str:
    """The contrasts at the sparsities that are shown."""
    body = []
    for row in _dicts(rows):
        if row["sparsity"] in nearest(rows.loc[rows["study"] == row["study"], "sparsity"], options.sparsities):
            body.append(contrast_cells(row))
    head = ("study", "pruned", "runs", "share, beside language", *CONTRAST_HEAD)
    return rows_table(head, body, folded=f"{len(body)} contrasts of one language with two")


CONTRAST_HEAD = ("one language, %", "two, %", "difference, points", "95 %", "p", "smallest p", "two / one", "95 %")


def contrast_cells(row: dict[str, Any]) -> list[str]:
    """The cells of a contrast: whose it is, what is shared, and those of :data:`CONTRAST_HEAD`."""
    beside = row["shared"]
    if "rows" in row["shared_same"].split(" + ") and "rows" not in beside.split(" + "):
        beside += "; one language also rows"
    return [
        row["study"],
        sparsity_name(row["sparsity"]),
        f"{row['runs_a']}, {row['runs_b']}",
        beside,
        f"{100 * row['same_language']:.1f}",
        f"{100 * row['other_language']:.1f}",
        f"{100 * row['difference']:.1f}",
        _ends(row["difference_low"], row["difference_high"], 100, 1),
        p_words(row["p"]),
        p_words(row["smallest_p"]),
        DASH if pd.isna(row["ratio"]) else f"{row['ratio']:.2f}",
        _ends(row["ratio_low"], row["ratio_high"], 1, 2),
    ]


def p_words(p: float) -> str:
    """A p to two digits: ``0.0083``."""
    return f"{p:.2g}"


def _ends(low: float | None, high: float | None, factor: float, places: int) -> str:
    return DASH if pd.isna(low) or pd.isna(high) else f"{factor * low:.{places}f} to {factor * high:.{places}f}"


def _dicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]
