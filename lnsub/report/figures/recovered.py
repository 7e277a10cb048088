"""What foreign tickets recover of what own tickets add to the inherited mask."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.recovered import recovered_cells, recovered_changes, recovered_shares
from lnsub.charts.drawing import DASH
from lnsub.charts.lines import Line, line_plot
from lnsub.charts.text import number
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, by_level, by_study, joined, listed, sparsity_name
from lnsub.report.figures.baselines import VARIANTS
from lnsub.report.html_tables import rows_table
from lnsub.report.metric_text import decimals, named, scale, with_unit, written
from lnsub.report.spread import seeds_of

TITLE = "Recovered share over the inherited mask"

SHARE = "recovered share"

MARKS: Mapping[str, float] = MappingProxyType({"as good as own": 1.0, "as good as inherited": 0.0})
"""Shares that are marked."""

_MARKS = "1: as good as own; 0: as inherited"

LINES: Mapping[str, str] = MappingProxyType(
    {"own": VARIANTS["own"], "foreign": VARIANTS["others"]}
    | {name: VARIANTS[name] for name in ("inherited", "oneshot", "shuffled", "random")}
)
"""What is drawn, and its names; one-shot masks and shuffled tickets are the target's own."""


def recovered_figure(material: Material, options: Options) -> Figure | Missing:
    """Own and foreign tickets beside the inherited mask by sparsity, and the share of the gain that is recovered."""
    fits = {study: _fits(material, study) for study in material.studies if study in material.metrics}
    cells = {study: recovered_cells(rows, material.metrics[study].higher_is_better) for study, rows in fits.items()}
    cells = {study: rows for study, rows in cells.items() if not rows.empty}
    if not cells:
        return Missing(
            TITLE,
            "it takes tickets fine-tuned on their own language and on others, and the inherited mask beside them; "
            "`lnsub transfer --baselines inherited` makes them",
        )
    shares = joined([recovered_shares(rows).assign(study=study) for study, rows in cells.items()])
    changes = joined([recovered_changes(rows).assign(study=study) for study, rows in cells.items()])
    panels = []
    for study, rows in by_study(shares, material.studies):
        metric = material.metrics[study]
        panels.append(_values_panel(study, metric, _side_by_side(fits[study], cells[study])))
        known = rows[rows["share"].notna()]
        if not known.empty:
            panels.append(_share_panel(study, known))
    drawn = joined([fits[study].assign(study=study) for study in cells])
    return Figure(
        "recovered_share",
        TITLE,
        _READING,
        seeds_of(material, drawn, ("target", "sparsity")),
        tuple(panels),
        _first(shares),
        _lead(shares, changes, material),
        table=_share_table(shares, material) + _change_table(changes, material),
        more={
            "recovered_cells": _first(joined([rows.assign(study=study) for study, rows in cells.items()])),
            **({} if changes.empty else {"recovered_changes": _first(changes)}),
        },
    )


_READING = (
    "The recovered share is what foreign tickets gain over the inherited mask, the largest pre-trained weights without "
    "any training, over what the target's own ticket gains: 1 where another language's ticket is as good as one's own, "
    "0 where it is no better than the mask that all have from theta_0. All were fine-tuned alike, on the same "
    "targets and seeds. Gains are averaged before they are divided, as a ratio of means does not hang on the few "
    "targets whose own ticket gains next to nothing; where own tickets are not clearly better than the inherited mask, "
    "there is no share. Strokes are 95 % intervals: Fieller's, by the jackknife over languages and, where there are "
    "three, seeds. The change between sparsities is paired, over the languages and seeds that both have. One-shot "
    "masks and shuffled tickets are the target's own."
)


def _fits(material: Material, study: str) -> pd.DataFrame:
    """The transfer records of a study's tickets, and those of baselines at the same scope and granularity."""
    records = material.records
    fits = records[(records["kind"] == "transfer") & records["source_condition"].isna()]
    tickets = fits[(fits["study"] == study) & (fits["variant"] == "ticket")]
    if tickets.empty:
        return tickets
    first = tickets.iloc[0]
    near = fits[(fits["model"] == first["model"]) & (fits["task"] == first["task"]) & (fits["scope"] == first["scope"])]
    units = near["score"].astype(str).str.partition(" by ")[2]
    alike = units == str(first["score"]).partition(" by ")[2]
    return joined([tickets, near[alike & near["variant"].isin(set(LINES) - {"own", "foreign"})]])


def _side_by_side(fits: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The mean of each of :data:`LINES` by sparsity, over the targets and seeds that the share is over."""
    place = ["sparsity", "target", "seed"]
    once = cells.groupby(place, as_index=False)[["own", "foreign", "inherited"]].mean()
    of_target = fits["source"].isna() | (fits["source"] == fits["target"])
    for variant in set(LINES) - set(once.columns):
        found = fits[(fits["variant"] == variant) & of_target].groupby(place)["value"].mean()
        once = once.merge(found.rename(variant).reset_index(), on=place, how="left")
    return once.groupby("sparsity", as_index=False)[list(LINES)].mean()


def _ticks(rows: pd.DataFrame) -> list[tuple[float, str]]:
    return [(sparsity, sparsity_name(sparsity)) for sparsity in sorted(set(rows["sparsity"]))]


def _values_panel(study: str, metric: MainMetric, means: pd.DataFrame) -> Panel:
    lines = [
        Line(name, [(s, scale(metric) * v) for s, v in zip(means["sparsity"], means[variant], strict=True) if v == v])
        for variant, name in LINES.items()
    ]
    drawing = line_plot(
        [line for line in lines if line.points],
        label=f"{study}: {named(metric)} of own and foreign tickets and baselines, mean over targets",
        x_label="pruned",
        y_label=with_unit(metric),
        order=list(LINES.values()),
        x_ticks=_ticks(means),
        decimals=decimals(metric),
    )
    return Panel(f"{study}: {with_unit(metric)}, mean over targets", drawing, study, group=study)


def _share_panel(study: str, rows: pd.DataFrame) -> Panel:
    found = rows.to_dict("records")
    line = Line(
        SHARE,
        [(row["sparsity"], row["share"]) for row in found],
        {row["sparsity"]: (row["share_low"], row["share_high"]) for row in found if pd.notna(row["share_low"])},
    )
    ends = [float(rows["sparsity"].min()), float(rows["sparsity"].max())]
    marks = [Line(what, [(end, value) for end in dict.fromkeys(ends)], plain=_MARKS) for what, value in MARKS.items()]
    drawing = line_plot(
        [line, *marks],
        label=f"{study}: recovered share by sparsity",
        x_label="pruned",
        y_label=SHARE,
        order=[SHARE, *MARKS],
        x_ticks=_ticks(rows),
        decimals=2,
    )
    return Panel(f"{study}: {SHARE}", drawing, study, part="share", group=study)


def _share_table(shares: pd.DataFrame, material: Material) -> str:
    head = ("study", "pruned", "own ticket", "others' tickets", "inherited mask", SHARE, "95 % interval", "over")
    body = []
    for study, rows in by_study(shares, material.studies):
        metric = material.metrics[study]
        for row in rows.to_dict("records"):
            values = (written(metric, row[name]) for name in ("own", "foreign", "inherited"))
            share = (_fixed(row["share"]), _interval(row, "share"), row["interval"])
            body.append((study, sparsity_name(row["sparsity"]), *values, *share))
    return rows_table(head, body)


def _change_table(changes: pd.DataFrame, material: Material) -> str:
    if changes.empty:
        return ""
    body = [
        (
            study,
            f"{sparsity_name(row['from_sparsity'])} to {sparsity_name(row['to_sparsity'])}",
            _fixed(row["from_share"]),
            _fixed(row["to_share"]),
            _fixed(row["change"]),
            _interval(row, "change"),
            row["interval"],
        )
        for study, rows in by_study(changes, material.studies)
        for row in rows.to_dict("records")
    ]
    return rows_table(("study", "pruned", "from", "to", "change of the share", "95 % interval", "over"), body)


def _lead(shares: pd.DataFrame, changes: pd.DataFrame, material: Material) -> str:
    known = [
        (study, row["sparsity"], f"{_fixed(row['share'])}{_in_brackets(row, 'share')}")
        for study, rows in by_study(shares, material.studies)
        for row in rows.to_dict("records")
        if pd.notna(row["share"])
    ]
    if not known:
        return ""
    lead = f"Foreign tickets recover, of what own ones add to the inherited mask (95 %): {by_level(known)}."
    # From the lowest sparsity to the highest, which is asked most.
    widest = [
        f"{study} {_fixed(row['change'])}{_in_brackets(row, 'change')} from {sparsity_name(row['from_sparsity'])} to "
        f"{sparsity_name(row['to_sparsity'])}"
        for study, rows in by_study(changes, material.studies)
        for row in [max(rows.to_dict("records"), key=lambda row: row["to_sparsity"] - row["from_sparsity"])]
        if pd.notna(row["change"])
    ]
    return f"{lead} Change of that share: {listed(widest)}." if widest else lead


def _first(data: pd.DataFrame) -> pd.DataFrame:
    return data[["study", *(column for column in data.columns if column != "study")]]


def _fixed(value: Any) -> str:
    return DASH if pd.isna(value) else number(float(value), 2)


def _interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = _fixed(row[f"{name}_low"]), _fixed(row[f"{name}_high"])
    return DASH if DASH in (low, high) else f"{low} to {high}"


def _in_brackets(row: Mapping[Any, Any], name: str) -> str:
    interval = _interval(row, name)
    return "" if interval == DASH else f" ({interval})"
