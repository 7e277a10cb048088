"""Sentence retrieval by layer: the dense model by language, and tickets beside it."""

from collections.abc import Callable

import pandas as pd

from lnsub.analysis.main_metric import task_title
from lnsub.report.collect import STUDY, Material
from lnsub.report.drawing.plots import Line, key, line_plot, swatch
from lnsub.report.figure import Figure, Missing, Options, Panel, joined, nearest, percent, sparsity_name
from lnsub.report.languages import html_label

TITLE = "Retrieval accuracy by layer"


def retrieval_figure(material: Material, options: Options) -> Figure | Missing:
    """The share of sentences whose translation is found, by layer."""
    data = retrieval_data(material.retrieval)
    if data.empty:
        return Missing(TITLE, "there are no records of retrieval; `lnsub retrieve --record` makes them")
    panels, leads = [], []
    for settings, rows in data.groupby("settings", sort=False):
        dense = rows[rows["system"] == "dense"]
        if not dense.empty:
            lines = _lines(dense, "target", material.style)
            entries = [(swatch(material.style(code)), html_label(code)) for code in sorted(set(dense["target"]))]
            panels.append(_panel(f"Dense model, each language with English ({settings})", lines, entries))
            leads.append(_best("the dense model", dense))
        shown = nearest(rows["sparsity"], options.sparsities)
        for task, of_task in rows[rows["system"] != "dense"].groupby("system"):
            levels = of_task[of_task["sparsity"].isin(shown)]
            if levels.empty:  # tickets that prune nothing
                continue
            levels = levels.assign(line=levels["sparsity"])
            both = joined([dense.assign(line=0.0), levels])
            name = task_title(str(task))
            styles = sorted(set(both["line"]))
            lines = _lines(both, "line", styles.index, _level)
            entries = [(swatch(place), _level(sparsity)) for place, sparsity in enumerate(styles)]
            panels.append(_panel(f"{name} tickets, mean over languages ({settings})", lines, entries))
            leads += [
                _best(f"{name} tickets at {sparsity_name(sparsity)}", levels[levels["sparsity"] == sparsity])
                for sparsity in sorted(set(levels["sparsity"]))
            ]
    reading = (
        "The share of sentences whose translation scores highest among all sentences of the other language, from "
        "and to English on average, by the states of each layer (0: the embeddings); nothing is trained. A ticket is "
        "applied to the pre-trained weights. The CSV has chance, one in the number of sentences."
    )
    lead = f"Translations are found best: {'; '.join(leads)}."
    return Figure("retrieval_by_layer", TITLE, reading, tuple(panels), "", data, lead)


def retrieval_data(records: pd.DataFrame) -> pd.DataFrame:
    """Averages retrieval over tickets of one task and sparsity.

    Args:
        records: of :attr:`lnsub.report.collect.Material.retrieval`.

    Returns:
        A row a model, settings, system (``dense``, or the task of tickets), score, scope, sparsity, target and layer:
        ``value``, between the ``lowest`` and ``highest`` ticket, ``tickets``, ``n`` and ``chance``.
    """
    if records.empty:
        return pd.DataFrame()
    system = records["found_on"].where(records["ticket"].notna(), "dense")
    rows = records.assign(settings=records["metric"].str.removeprefix("accuracy/"), system=system)
    by = ["settings", "system", *(column for column in STUDY if column != "task"), "sparsity", "target", "layer"]
    groups = rows.groupby(by, dropna=False)
    data = groups.agg(
        value=("value", "mean"),
        lowest=("value", "min"),
        highest=("value", "max"),
        tickets=("value", "size"),
        n=("n", "max"),
    ).reset_index()
    return data.assign(layer=data["layer"].astype(int), chance=1 / data["n"])


def _lines(rows: pd.DataFrame, column: str, style: Callable[..., int], name: Callable[..., str] = str) -> list[Line]:
    found = []
    for value, group in rows.groupby(column):
        points = [(float(layer), 100 * share) for layer, share in _by_layer(group).items()]
        found.append(Line(name(value), style(value), points))
    return found


def _by_layer(rows: pd.DataFrame) -> dict[int, float]:
    """The mean over languages of each layer."""
    means = rows.groupby("layer", as_index=False)["value"].mean()
    return dict(zip(means["layer"].tolist(), means["value"].tolist(), strict=True))


def _panel(title: str, lines: list[Line], entries: list[tuple[str, str]]) -> Panel:
    layers = sorted({x for line in lines for x, _ in line.points})
    # A tick at every whole layer in between too, so that distances are true where only some were measured.
    ticks = [(float(x), f"{x}") for x in range(int(layers[0]), int(layers[-1]) + 1)]
    if len(ticks) == 1:
        ticks = [(layers[0] - 1, ""), *ticks, (layers[0] + 1, "")]
    svg = line_plot(lines, label=title, x_label="layer", y_label="found, %", x_ticks=ticks)
    return Panel(title, svg, key(entries))


def _level(sparsity: float) -> str:
    return f"{sparsity_name(sparsity)} pruned" if sparsity else "dense model"


def _best(who: str, rows: pd.DataFrame) -> str:
    means = _by_layer(rows)
    best, last = max(means, key=means.__getitem__), max(means)
    tail = f"; {percent(means[last])} in layer {last}" if last != best else ""
    return f"{who} in layer {best} ({percent(means[best])}{tail})"
