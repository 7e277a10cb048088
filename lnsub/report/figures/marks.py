"""Marks of heat maps of languages: the cells that two languages' own effects do not explain."""

from collections.abc import Mapping

import pandas as pd

from lnsub.analysis.many_comparisons import LEVEL, Tested, cells_beyond_effects
from lnsub.report.collect import Material
from lnsub.report.figure import listed, sparsity_name

Tests = Mapping[tuple[str, float], Tested]
"""The tests of each study and sparsity."""


def transfer_tests(material: Material, kind: str) -> Tests:
    """Tests the transfer cells of each study and sparsity, of records of one kind; none of published numbers.

    Where tickets are of several seeds, these are the replicates, over which fits of one ticket are averaged: fits alone
    would say nothing of other tickets. Else the seeds of the fits are.
    """
    records = material.records
    rows = records[(records["kind"] == kind) & (records["variant"] == "ticket") & records["source"].notna()]
    found = {}
    for (study, sparsity), part in rows.groupby(["study", "sparsity"]) if not material.about else ():
        several = part["source_seed"].nunique() > 1
        seeds = part["source_seed"] if several and part["source_seed"].notna().all() else part["seed"]
        cells = zip(part["source"], part["target"], seeds.astype(int), part["value"].astype(float), strict=True)
        found[str(study), float(str(sparsity))] = cells_beyond_effects(cells)
    return found


def overlap_tests(pairs: pd.DataFrame, column: str) -> Tests:
    """Tests the pairs of languages of each study and sparsity, by pairs of tickets of one seed.

    Pairs of one seed are used whatever the heat map is over: each ticket is then in one replicate alone, while pairs of
    different seeds share tickets with one another.

    Args:
        pairs: :attr:`lnsub.report.collect.Material.pairs`.
        column: what is tested: ``overlap`` or ``departure_overlap``.
    """
    if pairs.empty or column not in pairs:
        return {}
    found = {}
    same = pairs[pairs["seed_a"] == pairs["seed_b"]]
    for (study, sparsity), part in same.groupby(["study", "sparsity"]):
        values = part[column].astype(float)
        cells = zip(part["language_a"], part["language_b"], part["seed_a"].astype(int), values, strict=True)
        found[str(study), float(str(sparsity))] = cells_beyond_effects(cells, symmetric=True)
    return found


def with_tests(cells: pd.DataFrame, tests: Tests, prefix: str = "") -> pd.DataFrame:
    """Adds ``p`` and ``q`` to a table of cells with ``study``, ``sparsity``, ``source`` and ``target``."""
    places = list(zip(cells["study"], cells["sparsity"], cells["source"], cells["target"], strict=True))
    empty = Tested()
    of = [(tests.get((study, float(sparsity)), empty), (s, t)) for study, sparsity, s, t in places]
    p = pd.Series([test.p.get(place) for test, place in of], cells.index, float)
    q = pd.Series([test.q.get(place) for test, place in of], cells.index, float)
    return cells.assign(**{f"{prefix}p": p, f"{prefix}q": q})


def mark_words(shown: list[tuple[str, float]], tests: Tests, effects: str, seeds: str = "seeds") -> str:
    """Says what a dot means, and where no cell can have one.

    Args:
        shown: study and sparsity of each heat map.
        tests: what was tested.
        effects: whose effects are taken out: ``source and target``.
        seeds: what agrees.
    """
    there = [(place, tests[place]) for place in shown if place in tests]
    if not there:
        return ""
    reasons: dict[str, list[tuple[str, float]]] = {}
    for place, test in there:
        if test.reason:
            reasons.setdefault(test.reason, []).append(place)
    impossible = [
        f"{listed([f'{study} at {sparsity_name(sparsity)}' for study, sparsity in places])}, as {reason}"
        for reason, places in reasons.items()
    ]
    every = len(there) == sum(map(len, reasons.values()))
    if every and len(reasons) == 1:
        return f" No cell can be marked: {next(iter(reasons))}."
    text = (
        f" A dot marks a cell that effects of {effects} do not explain, in agreement over {seeds} (by a permutation "
        f"test that renames the languages seed by seed; false discovery rate of {LEVEL:g} over the heat map)."
    )
    marked = any(test.marked for _, test in there)
    text += "" if marked or every else " No cell stands out that far."
    return text + (f" No cell can be marked of {'; of '.join(impossible)}." if impossible else "")
