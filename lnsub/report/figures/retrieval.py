"""Sentence retrieval by layer: the dense model by language, and tickets beside it."""

import pandas as pd

from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, percent, sparsity_name
from lnsub.report.figures.by_layer import (
    DENSE,
    SYSTEM,
    by_layer_seeds,
    layer_panel,
    level_name,
    level_order,
    lines_of,
    means,
    pivot_words,
    ticket_panels,
    with_system,
)
from lnsub.report.spread import NO_INTERVAL

TITLE = "Retrieval accuracy by layer"


def retrieval_figure(material: Material, options: Options) -> Figure | Missing:
    """The share of sentences whose translation is found, by layer."""
    data = retrieval_data(material.retrieval)
    if data.empty:
        return Missing(TITLE, "there are no records of retrieval; `lnsub retrieve --record` makes them")
    panels, leads = [], []
    for key, rows in data.groupby(["settings", "top", "pivot"], sort=False):
        settings, top, pivot = str(key[0]), int(str(key[1])), str(key[2])
        how = f"{settings}, first {top}" if top > 1 else settings
        among = f" among the first {top}" if top > 1 else ""
        among += "" if pivot == "en" else f" from and to {pivot}"
        other = "" if pivot == "en" else pivot
        dense = rows[rows["system"] == DENSE]
        if not dense.empty:
            lines = lines_of(dense, "target", scale=100)
            title = f"Dense model, each language with {pivot_words(pivot)} ({how})"
            panels.append(
                layer_panel(title, lines, material.order, "found, %", part=f"dense {how} {other}", languages=True)
            )
            leads.append(_best(f"the dense model{among}", dense))
        for title, name, both, sparsities in ticket_panels(rows, options.sparsities):
            lines = lines_of(both, "line", level_name, scale=100)
            order = level_order(both)
            with_pivot = "" if pivot == "en" else f" with {pivot_words(pivot)}"
            panels.append(
                layer_panel(f"{title}{with_pivot} ({how})", lines, order, "found, %", part=f"{name} {how} {other}")
            )
            leads += [
                _best(f"{name} at {sparsity_name(sparsity)}{among}", both[both["line"] == sparsity])
                for sparsity in sparsities
            ]
            leads += [
                _best(f"inherited masks at {sparsity_name(sparsity)}{among}", masks)
                for sparsity in sparsities
                if not (masks := both[both["line"] == -sparsity]).empty
            ]
    reading = (
        "The share of sentences whose translation scores highest among all sentences of the other language, or is "
        "among the first so many, in both directions on average, by the states of each layer (0: the embeddings); "
        "nothing is trained. A ticket is applied to the pre-trained weights: to both languages, or to each its own; an "
        "inherited mask keeps the largest pre-trained weights without any training. "
        f"The CSV has chance, as many as count in the number of sentences. {NO_INTERVAL}"
    )
    lead = f"Translations are found best: {'; '.join(leads)}."
    return Figure("retrieval_by_layer", TITLE, reading, by_layer_seeds(material.retrieval), tuple(panels), data, lead)


def retrieval_data(records: pd.DataFrame) -> pd.DataFrame:
    """Averages retrieval over tickets of one task and sparsity.

    Args:
        records: of :attr:`lnsub.report.collect.Material.retrieval`.

    Returns:
        A row a model, settings, number that counts (``top``), pivot, system (``dense``, or the task of tickets),
        whether tickets are each language's ``own``, score, scope, sparsity, target and layer: ``value``, between the
        ``lowest`` and ``highest`` ticket, ``tickets``, ``n`` and ``chance``.
    """
    if records.empty:
        return pd.DataFrame()
    # accuracy/mean/ratio-4 and accuracy@5/mean/ratio-4
    parts = records["metric"].str.extract(r"^accuracy(?:@(\d{1,9}))?/(.+)$")
    rows = with_system(records).assign(
        settings=parts[1].fillna(records["metric"]), top=parts[0].fillna("1").astype(int)
    )
    groups = rows.groupby(["settings", "top", "pivot", *SYSTEM], dropna=False)
    data = groups.agg(
        value=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        tickets=("value", "size"),
        n=("n", "max"),
    ).reset_index()
    return data.assign(chance=data["top"] / data["n"])


def _best(who: str, rows: pd.DataFrame) -> str:
    by_layer = means(rows)
    best, last = max(by_layer, key=by_layer.__getitem__), max(by_layer)
    tail = f"; {percent(by_layer[last])} in layer {last}" if last != best else ""
    return f"{who} in layer {best} ({percent(by_layer[best])}{tail})"
