"""What a figure says of seeds, and of what its intervals were resampled over, in the same words everywhere."""

from collections.abc import Sequence

import pandas as pd

from lnsub.report.collect import Material
from lnsub.report.figure import listed

PUBLISHED = "Seeds: the published numbers are means of three, and how far these differ was not published."
"""What figures of the published numbers say."""

UNTRAINED = "Seeds: none, as the dense model is the pre-trained one and no ticket was measured."
"""What figures of the pre-trained model alone say."""

RANGE = "strokes reach from the lowest to the highest seed, and are no confidence interval"
SENTENCES = "a 95 % interval by the delete-d jackknife, for which sentences are drawn without replacement"
JACKKNIFE = "a 95 % t interval by the jackknife, for which languages and seeds are left out one at a time"
LANGUAGES_LEFT_OUT = "a 95 % t interval by the jackknife, for which languages are left out one at a time"
PERMUTED = "the share of permutations of the languages that do as much, with effects of source and target taken out"
DRAWS = "a 95 % prediction interval by Student's t over the random removals, for which nothing is resampled"
NO_INTERVAL = "No interval is drawn."


def seed_words(rows: pd.DataFrame, columns: Sequence[str] = ("seed",), cell: Sequence[str] = ()) -> str:
    """Says how many seeds a figure is over: ``Seeds: 2 (57 and 58) of NER; 1 (57) of XNLI, ...``.

    Args:
        rows: the records, pairs or tickets that are drawn, with a column ``study`` where there are studies.
        columns: those that hold seeds.
        cell: the columns of what is averaged over seeds; where one such has fewer seeds than another, both are said.
    """
    studies = rows["study"].tolist() if "study" in rows else [""] * len(rows)
    found: dict[str, set[int]] = {}
    cells: dict[str, dict[tuple[object, ...], set[int]]] = {}
    for study, row in zip(studies, rows.to_dict("records"), strict=True):
        there = {int(row[column]) for column in columns if pd.notna(row[column])}
        found.setdefault(study, set()).update(there)
        key = tuple(str(row[column]) for column in cell)
        cells.setdefault(study, {}).setdefault(key, set()).update(there)
    by_words: dict[str, list[str]] = {}
    for study, seeds in found.items():
        fewest = min(len(of_cell) for of_cell in cells[study].values()) if cell else len(seeds)
        by_words.setdefault(_counted(sorted(seeds), fewest), []).append(study)
    if not by_words:
        return "Seeds: none."
    alone = len(by_words) == 1
    text = "; ".join(words if alone else f"{words} of {listed(of)}" for words, of in by_words.items())
    single = any(len(seeds) == 1 for seeds in found.values())
    every = all(len(seeds) == 1 for seeds in found.values())
    spread = (" so" if every else " with one seed") if single else ""
    return f"Seeds: {text}{f';{spread} nothing is known of the spread over seeds' if single else ''}."


def seeds_of(material: Material, rows: pd.DataFrame, cell: Sequence[str] = ()) -> str:
    """The same of records of a report, which may be the published ones.

    Args:
        material: what the report is drawn from.
        rows: the records.
        cell: see :func:`seed_words`.
    """
    return PUBLISHED if material.about else seed_words(rows, cell=cell)


def _counted(seeds: Sequence[int], fewest: int) -> str:
    shown = f" ({listed([str(seed) for seed in seeds])})" if len(seeds) < 8 else ""
    count = f"{len(seeds)}" if fewest >= len(seeds) or not fewest else f"{fewest} to {len(seeds)}"
    return f"{count}{shown}"
