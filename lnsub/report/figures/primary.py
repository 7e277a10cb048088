"""The primary endpoint: the one result that was named before there were data, shown first."""

from typing import Any

import pandas as pd

from lnsub.analysis.overlap.contrast import contrast_rows, pairs_between, table_of
from lnsub.charts.heat import Shading, heat_map
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, Primary, sparsity_name
from lnsub.report.figures.controls import CONTRAST_HEAD, MEASURES, contrast_cells, p_words
from lnsub.report.html_tables import rows_table
from lnsub.report.languages import labels
from lnsub.report.spread import LANGUAGES_LEFT_OUT, seed_words

TITLE = "Primary endpoint"


def primary_figure(material: Material, options: Options) -> Figure | Missing | None:
    """The contrast that was named as primary; None where none was."""
    if options.primary is None:
        return None
    asked = options.primary
    rows = _rows_of(material, asked)
    if isinstance(rows, str):
        return Missing(TITLE, rows, asked=True)
    pairs = [{str(column): value for column, value in row.items()} for row in rows.to_dict("records")]
    found = [row for row in contrast_rows(pairs, asked.runs) if row["measure"] == asked.measure]
    if not found:
        return Missing(
            TITLE,
            f"there is no {asked.measure} of tickets of {asked.task} at {sparsity_name(asked.sparsity)} of two "
            f"languages or more in both {asked.runs[0]} and {asked.runs[1]}",
            asked=True,
        )
    result: dict[str, Any] = {"study": rows["study"].iloc[0], "sparsity": asked.sparsity, **found[0]}
    languages, table = table_of(pairs_between(pairs, asked.runs), asked.measure)
    unit = MEASURES[asked.measure]
    title = f"{result['study']}, {sparsity_name(asked.sparsity)} pruned: {asked.runs[0]} by {asked.runs[1]}"
    drawing = heat_map(
        {
            (row, column): 100 * float(table[i, j])
            for i, row in enumerate(languages)
            for j, column in enumerate(languages)
        },
        languages,
        languages,
        Shading.of([100 * float(value) for value in table.flat]),
        label=f"{title}: {unit}",
        unit=unit,
        row_title=asked.runs[0],
        column_title=asked.runs[1],
        names=labels(languages),
    )
    reading = (
        "This was named as the primary endpoint; every other result on this page is secondary or exploratory. "
        "Is a language's ticket more like that of the same language from another set of runs (the diagonal) than like "
        f"those of other languages? Beside the language, pairs share: {result['shared']}. The interval is "
        f"{LANGUAGES_LEFT_OUT}. p is one-sided and exact up to eight languages: the share of all pairings of the "
        "languages of the two sets whose mean is as high as that of each language with itself."
    )
    cells = rows_table(("study", "pruned", "runs", "share, beside language", *CONTRAST_HEAD), [contrast_cells(result)])
    seeds = seed_words(rows[rows["run_a"].isin(asked.runs) & rows["run_b"].isin(asked.runs)], ("seed_a", "seed_b"))
    panels = (Panel(title, drawing, str(result["study"]), asked.sparsity, "primary"),)
    return Figure("primary", TITLE, reading, seeds, panels, pd.DataFrame([result]), _sentence(result), cells)


def _rows_of(material: Material, asked: Primary) -> pd.DataFrame | str:
    """The pairs that the endpoint is of, or why there are none."""
    pairs = material.controls
    if pairs.empty:
        return "there are no two comparable tickets"
    at = (pairs["task"] == asked.task) & ((pairs["sparsity"].astype(float) - asked.sparsity).abs() < 1e-6)
    studies = sorted(set(pairs.loc[at, "study"]))
    if not studies:
        return f"there are no two tickets of {asked.task} at {sparsity_name(asked.sparsity)}"
    if len(studies) > 1:
        return f"it is of one study, and {asked.task} has several: {', '.join(studies)}"
    return pairs[at]


def _sentence(row: dict[str, Any]) -> str:
    """The endpoint in a sentence: its number, its interval and its p."""
    measure = MEASURES[row["measure"]].removesuffix(", %")
    text = (
        f"{row['study']} at {sparsity_name(row['sparsity'])}, {row['runs_a']} with {row['runs_b']}, {measure}: one "
        f"language {100 * row['same_language']:.1f}\u00a0%, two languages {100 * row['other_language']:.1f}\u00a0%, "
        f"difference {100 * row['difference']:.1f} points"
    )
    if row["difference_low"] is not None:
        ends = f"{100 * row['difference_low']:.1f} to {100 * row['difference_high']:.1f}"
        text += f" (95\u00a0% interval {ends})"
    return (
        f"{text}, p {p_words(row['p'])}; with {row['languages']} languages p is {p_words(row['smallest_p'])} or more."
    )
