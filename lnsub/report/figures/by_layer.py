"""What the figures of measurements by layer share: which system was measured, and panels over layers."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from lnsub.analysis.main_metric import task_title
from lnsub.charts.lines import Line, line_plot
from lnsub.report.collect import STUDY
from lnsub.report.figure import Panel, joined, listed, nearest, pruned_name
from lnsub.report.languages import label, labels
from lnsub.report.spread import UNTRAINED, seed_words
from lnsub.tickets.provenance import INHERITED

DENSE = "dense"
"""The system of records without a ticket; that of the others is the task of their tickets."""

SYSTEM = ("system", "own", *(column for column in STUDY if column != "task"), "sparsity", "target", "layer")
"""Columns that tell apart what was measured."""


def with_system(records: pd.DataFrame) -> pd.DataFrame:
    """Adds the columns ``system``, ``own`` (each language was embedded under its own ticket) and the ``pivot``'s name.

    Args:
        records: of :attr:`lnsub.report.collect.Material.retrieval` or ``similarity``; at least one.
    """
    return records.assign(
        system=records["found_on"].where(records["ticket"].notna(), DENSE),
        own=records["pivot_ticket"].notna(),
        pivot=records["pivot"].astype(object).where(records["pivot"].notna(), "en"),
        layer=records["layer"].astype(int),
    )


def ticket_panels(rows: pd.DataFrame, sparsities: Sequence[float]) -> list[tuple[str, str, pd.DataFrame, list[float]]]:
    """Lists the panels of tickets.

    Args:
        rows: of one measure and setting, with the columns of :func:`with_system`.
        sparsities: those asked for.

    Returns:
        For each task, and once more for tickets that are each language's own: the title's beginning, what a sentence
        calls them, the rows of the dense model and of inherited masks of these sparsities (on their languages alone, so
        that the means compare) and theirs with a column ``line`` (the sparsity; of an inherited mask its negative), and
        the sparsities shown.
    """
    dense, shown = rows[rows["system"] == DENSE], nearest(rows["sparsity"], sparsities)
    found = []
    inherited = rows[rows["system"] == INHERITED]
    tickets = rows[~rows["system"].isin([DENSE, INHERITED])]
    if tickets.empty:
        tickets, inherited = inherited, inherited.iloc[:0]
    for (task, own), of_task in tickets.groupby(["system", "own"]):
        levels = of_task[of_task["sparsity"].isin(shown)]
        if levels.empty:  # tickets that prune nothing
            continue
        targets = sorted(set(levels["target"]))
        beside = dense[dense["target"].isin(targets)]
        masks = inherited[inherited["target"].isin(targets) & inherited["sparsity"].isin(levels["sparsity"])]
        both = joined(
            [beside.assign(line=0.0), levels.assign(line=levels["sparsity"]), masks.assign(line=-masks["sparsity"])]
        )
        name = "Inherited masks" if task == INHERITED else f"{task_title(str(task))} tickets"
        over = label(targets[0]) if len(targets) == 1 else "mean" if own else "mean over languages"
        title = f"{name}, each language under its own, {over}" if own else f"{name}, {over}"
        found.append((title, f"{name} of each language" if own else name, both, sorted(set(levels["sparsity"]))))
    return found


def pivot_words(pivot: str) -> str:
    """How a title says what each language was compared with: ``English``, ``français fr``."""
    return "English" if pivot == "en" else label(pivot)


def level_name(line: float) -> str:
    """How a legend says what a ``line`` of :func:`ticket_panels` is."""
    if line < 0:
        return f"inherited mask, {pruned_name(-line)}"
    return pruned_name(line) if line else "dense model"


def level_order(both: pd.DataFrame) -> list[str]:
    """The names of a panel's lines: the dense model, tickets and inherited masks by sparsity."""
    return [level_name(line) for line in sorted(set(both["line"]), key=lambda line: (line < 0, abs(line)))]


def means(rows: pd.DataFrame, column: str = "value") -> dict[int, float]:
    """The mean over languages and tickets of each layer."""
    found = rows.groupby("layer", as_index=False)[column].mean()
    return dict(zip(found["layer"].tolist(), found[column].tolist(), strict=True))


def lines_of(rows: pd.DataFrame, column: str, name: Callable[..., str] = str, scale: float = 1.0) -> list[Line]:
    """A line of means by layer for each value of a column.

    Args:
        rows: with ``layer``, ``value`` and the column.
        column: what tells the lines apart.
        name: what a line is called.
        scale: what values are multiplied by.
    """
    return [
        Line(name(value), [(float(layer), scale * mean) for layer, mean in means(group).items()])
        for value, group in rows.groupby(column)
    ]


def layer_panel(
    title: str,
    lines: Sequence[Line],
    order: Sequence[str],
    y_label: str,
    decimals: int = 1,
    *,
    part: str,
    languages: bool = False,
) -> Panel:
    """Draws lines over layers.

    Args:
        title: of the panel.
        lines: the lines.
        order: all series, which gives each its colour.
        y_label: the name and unit of the values.
        decimals: of the values.
        part: what names the panel's file.
        languages: lines are languages.
    """
    layers = sorted({x for line in lines for x, _ in line.points})
    # A tick at every whole layer in between too, so that distances are true where only some were measured.
    ticks = [(float(x), f"{x}") for x in range(int(layers[0]), int(layers[-1]) + 1)]
    if len(ticks) == 1:
        ticks = [(layers[0] - 1, ""), *ticks, (layers[0] + 1, "")]
    drawing = line_plot(
        lines,
        label=title,
        x_label="layer",
        y_label=y_label,
        order=order,
        names=labels(line.name for line in lines) if languages else {},
        x_ticks=ticks,
        decimals=decimals,
        languages=languages,
    )
    return Panel(title, drawing, part=part)


def by_layer_seeds(records: pd.DataFrame) -> str:
    """Says how many seeds the tickets that were measured are of; the pre-trained model's states are of none."""
    found = records[records["ticket"].notna() & (records["found_on"] != INHERITED)]
    if found.empty:
        return UNTRAINED
    return f"{seed_words(found)} The dense model and inherited masks are of the pre-trained one, which has none."


def first_and_last(by_layer: Mapping[int, float]) -> str:
    """Says how a value goes through the layers: ``0.71 in layer 1 to 0.42 in layer 12``."""
    ends = sorted({min(by_layer), max(by_layer)})
    return listed([f"{by_layer[layer]:.2f} in layer {layer}" for layer in ends]).replace(" and ", " to ")
