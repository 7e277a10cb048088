"""Similarity of two languages' states by layer: the dense model by language, and tickets beside it."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pandas as pd

from lnsub.charts.lines import Line
from lnsub.report.collect import LARGEST, Material
from lnsub.report.figure import Figure, Missing, Options, Panel, sparsity_name
from lnsub.report.figures.by_layer import (
    DENSE,
    SYSTEM,
    by_layer_seeds,
    first_and_last,
    layer_panel,
    level_name,
    level_order,
    lines_of,
    means,
    pivot_words,
    ticket_panels,
    with_system,
)
from lnsub.report.spread import SENTENCES

TITLE = "Similarity by layer"

# The measures' own table would bring in torch, which no report needs.
NAMES: Mapping[str, str] = MappingProxyType(
    {"cka": "CKA", "svcca": "SVCCA", "pwcca": "PWCCA", "biased_cka": "CKA, biased"}
)
"""The measures in the order of the panels."""

POOLED = MappingProxyType({"mean": "mean of the tokens", "first": "first token"})

_NULL = "sentences shuffled"


def similarity_figure(material: Material, options: Options) -> Figure | Missing:
    """How similar the states of parallel sentences are, by layer."""
    data = similarity_data(material.similarity)
    if data.empty:
        return Missing(TITLE, "there are no records of similarity; `lnsub similarity --record` makes them")
    panels: list[Panel] = []
    leads = []
    for key, rows in data.groupby(["pooling", "pivot", "measure"], sort=False):
        pooling, pivot, measure = map(str, key)
        name, how = NAMES.get(measure, measure), POOLED.get(pooling, pooling)
        file = pooling if pivot == "en" else f"{pooling} {pivot}"
        dense = rows[rows["system"] == DENSE]
        if not dense.empty:
            lines = [
                replace(line, ranges=_intervals(dense[dense["target"] == line.name]))
                for line in lines_of(dense, "target")
            ]
            title = f"{name}, dense model, each language with {pivot_words(pivot)} ({how})"
            panels.append(
                _panel(title, lines, material.order, name, dense, part=f"{name} dense {file}", languages=True)
            )
            leads.append(f"{name} ({how}) of the dense model goes from {first_and_last(means(dense))}")
        for title, who, both, sparsities in ticket_panels(rows, options.sparsities):
            lines = lines_of(both, "line", level_name)
            order = level_order(both)
            with_pivot = "" if pivot == "en" else f" with {pivot_words(pivot)}"
            panels.append(
                _panel(f"{name}, {title}{with_pivot} ({how})", lines, order, name, both, part=f"{name} {who} {file}")
            )
            leads += [
                f"of {who} at {sparsity_name(sparsity)} from {first_and_last(means(both[both['line'] == sparsity]))}"
                for sparsity in sparsities
            ]
    reading = (
        "How similar the states of parallel sentences of two languages are in each layer (0: the embeddings): 1 is "
        "the same arrangement up to a rotation (CKA) or any linear map (SVCCA, PWCCA). The dashed line is the same "
        "measure of shuffled sentences, its mean over languages: what lies on it says nothing of translations. "
        f"Strokes, at the dense model's points alone, are {SENTENCES}. PWCCA weights the directions of the language "
        "that the others are compared with. Nothing is trained; a ticket is applied to the pre-trained weights: to "
        "both languages, or to each its own; an inherited mask keeps the largest of them without any training."
    )
    return Figure(
        "similarity_by_layer",
        TITLE,
        reading,
        by_layer_seeds(material.similarity),
        tuple(panels),
        data,
        f"{'; '.join(leads)}.",
    )


def similarity_data(records: pd.DataFrame) -> pd.DataFrame:
    """Averages similarity over tickets of one task and sparsity.

    Args:
        records: of :attr:`lnsub.report.collect.Material.similarity`.

    Returns:
        A row a model, pooling, pivot, measure, system (``dense``, or the task of tickets), whether tickets are each
        language's ``own``, score, scope, sparsity, target and layer: ``value``, between the ``lowest`` and ``highest``
        ticket; means of ``low`` and ``high``, the ends of the 95 % interval, and of ``null``, ``null_low`` and
        ``null_high``; ``tickets`` and ``n``.
    """
    if records.empty:
        return pd.DataFrame()
    parts = records["metric"].str.partition("/")
    order = [*NAMES, *sorted(set(parts[0]) - NAMES.keys())]
    rows = with_system(records).assign(measure=pd.Categorical(parts[0], order), pooling=parts[2])
    ends = ("low", "high", "null", "null_low", "null_high")
    numbers = rows[list(ends)].astype(float)
    rows[list(ends)] = numbers.where(numbers.abs() < LARGEST)
    groups = rows.groupby(["pooling", "pivot", "measure", *SYSTEM], dropna=False, observed=True)
    data = groups.agg(
        value=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        **{end: (end, "mean") for end in ends},
        tickets=("value", "size"),
        n=("n", "max"),
    ).reset_index()
    return data.assign(measure=data["measure"].astype(str))


def _intervals(rows: pd.DataFrame) -> dict[float, tuple[float, float]]:
    """The ends of the interval by layer, where there is one; of several rows of a layer the mean."""
    known = rows.dropna(subset=["low", "high"])
    low, high = means(known, "low"), means(known, "high")
    return {float(layer): (low[layer], high[layer]) for layer in low}


def _panel(
    title: str,
    lines: list[Line],
    order: list[str],
    name: str,
    rows: pd.DataFrame,
    *,
    part: str,
    languages: bool = False,
) -> Panel:
    null = [(float(layer), value) for layer, value in means(rows.dropna(subset=["null"]), "null").items()]
    if null:
        lines = [*lines, Line(_NULL, null, plain=_NULL)]
    return layer_panel(title, lines, order, name, decimals=3, part=part, languages=languages)
