"""What all kinds of charts share: a drawing with its table, the series' colours, and what a reader picks out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from lnsub.charts.text import width_of
from lnsub.charts.theme import WIDTH

Spec = dict[str, Any]
"""A Vega-Lite specification."""

DASH = "\u2013"
"""Shown where there is no value."""

PICKED, LEVEL, NAMES = "picked", "level", "names"
"""A chart's parameters: the languages picked out, the series of the chosen sparsity, and what categories are called."""


@dataclass(frozen=True)
class Table:
    """The numbers of a drawing, as text: the columns' names, the rows, and what the numbers are."""

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    unit: str = ""


@dataclass(frozen=True)
class Drawing:
    """A chart: its specification, without colours and fonts, and its numbers as a table."""

    spec: Spec
    table: Table


@dataclass(frozen=True)
class Focus:
    """What a reader can pick out of a chart.

    Attributes:
        languages: the fields that hold languages; a mark stays where one of them is picked.
        level: the field that names a sparsity, or none.
    """

    languages: tuple[str, ...] = ()
    level: str = ""

    def opacity(self, usual: float = 1.0) -> Any:
        """Full where a mark is picked or nothing is, faint elsewhere."""
        tests = []
        if self.languages:
            found = " || ".join(f"indexof({PICKED}, datum.{field}) >= 0" for field in self.languages)
            tests.append(f"(!length({PICKED}) || {found})")
        if self.level:
            tests.append(f"(!{LEVEL} || datum.{self.level} == {LEVEL})")
        return alt.condition(" && ".join(tests), alt.value(usual), alt.value(0.1)) if tests else alt.value(usual)

    def params(self) -> list[Any]:
        """The parameters that the opacities read."""
        found = [alt.param(PICKED, value=[])] if self.languages else []
        return [*found, alt.param(LEVEL, value="")] if self.level else found


def finished(
    drawn: Any, rows: Sequence[Mapping[str, Any]], label: str, focus: Focus, names: Mapping[str, str], table: Table
) -> Drawing:
    """Gives a chart its data, its description and its parameters.

    Args:
        drawn: an Altair chart whose layers share their data, see :func:`chart`.
        rows: the data.
        label: what it shows, for screen readers.
        focus: what can be picked out.
        names: what categories are called, where it is not what they are.
        table: its numbers.
    """
    whole = drawn.add_params(alt.param(NAMES, value={}), *focus.params()).to_dict(validate=False)
    # The theme is the renderer's, and the page has it once.
    spec = {key: value for key, value in whole.items() if key not in {"config", "$schema"}}
    spec |= {"description": label, "width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 2}
    # Altair would copy what it is given again and again.
    spec["data"] = {"values": [_plain(row) for row in rows]}
    for layer in spec.get("layer", ()):
        layer.pop("data", None)
    for parameter in spec["params"]:
        parameter["value"] = dict(names) if parameter["name"] == NAMES else parameter["value"]
    return Drawing(spec, table)


def chart() -> Any:
    """A chart, or one of its layers, of the data that :func:`finished` gives."""
    return alt.Chart(alt.NamedData(name="rows"))


def named(parameter: str = NAMES) -> str:
    """The expression of an axis's or a legend's label."""
    return f"{parameter}[datum.label] || datum.label"


def series(
    field: str, order: Sequence[str], present: Iterable[str], names: Mapping[str, str], left: float = 48
) -> dict[str, Any]:
    """The channels that tell series apart: a colour and a marker each, by their places in ``order``.

    Args:
        field: the field with their names.
        order: all series of the report, of which a chart shows some.
        present: those of the chart.
        names: what they are called.
        left: pixels that the labels on the left take, which the legend is beside.
    """
    there = list(dict.fromkeys(present))
    domain = [*order, *(name for name in there if name not in order)]
    shown = [name for name in domain if name in there]
    legend = alt.Legend(
        title=None,
        orient="bottom",
        values=shown,
        columns=columns([names.get(s, s) for s in shown], left),
        labelExpr=named(),
    )
    scale = alt.Scale(domain=domain)
    return {
        "color": alt.Color(field=field, type="nominal", scale=scale, legend=legend),
        "shape": alt.Shape(field=field, type="nominal", scale=scale, legend=legend),
    }


def columns(labels: Sequence[str], left: float) -> int:
    """How many entries of a legend fit side by side, right of ``left``."""
    # Widths are estimated on the wide side, which in a legend's columns would add up.
    return max(1, int((WIDTH - left) // (0.9 * max([width_of(label) for label in labels], default=1.0) + 28)))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of what JSON has: nothing where there is no number."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}
