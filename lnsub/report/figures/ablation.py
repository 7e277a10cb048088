"""Ablation: what each language loses where the weights that tickets name are taken away."""

from typing import Any

import pandas as pd

from lnsub.analysis.ablation.effects import LOG, SET, cells, drop_metric, drops, overall, own_against_others
from lnsub.analysis.main_metric import MainMetric, main_metrics, task_title
from lnsub.analysis.transfer_cells import in_order
from lnsub.charts.bars import bar_groups
from lnsub.charts.heat import Shading, heat_map
from lnsub.charts.text import number
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, Panel, nearest, sparsity_name
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.languages import labels
from lnsub.report.metric_text import scale
from lnsub.report.spread import DRAWS, seed_words

TITLE = "Ablation: what was taken away, by what was measured"
RANDOM = "random"
"""The row of random removals."""

OWN, OTHERS, RANDOM_OWN = "own language", "other languages, mean", "own language, random removals"
READING = (
    "What each ticket names was taken away from the model, nothing was trained, and each language was measured (the "
    "columns). The numbers are drops: how much worse the main metric is than the dense model's; of a perplexity the "
    "rise of its logarithm, in nats per token. A negative drop is a gain. The last row is the mean of random removals, "
    "of as many units from the same places. A dot marks a drop that is beyond those random removals: outside "
    f"{DRAWS}. Bars: the drop of a ticket's own language beside the mean drop of the others, and beside its drop by "
    "random removals. Each panel has colours of its own scale: orange is worse, blue better. Values are means over "
    "the tickets of a language. In the table below, the excess is own less others, less the same of random removals; "
    "its interval is a 95 % t interval over languages."
)


def ablation_figure(material: Material, options: Options) -> Figure | Missing:
    """The drop of each language without each language's weights, and own against others."""
    found = drops(material.ablation) if len(material.ablation) else pd.DataFrame()
    if found.empty:
        return Missing(TITLE, "there are no records of removals beside the dense model's; `lnsub ablate` makes them")
    metrics = {task: drop_metric(metric) for task, metric in main_metrics(material.ablation).items()}
    table, against = cells(found), own_against_others(found)
    means = overall(against)
    panels, leads = [], []
    for facts, rows in _shown(table, options):
        metric = metrics[facts["task"]]
        own = against[_same(against, facts)] if len(against) else against
        panels += _panels(facts, rows, own, metric, material)
        if len(own) and len(means) and len(mean := means[_same(means, facts)]):
            leads.append(_lead(facts, rows, mean.iloc[0], metric))
    seeded = found[(found["source_seed"].fillna(-1) >= 0) & found["draw"].isna()]
    seeds = seed_words(seeded, ("source_seed",), cell=("source", "sparsity"))
    lead = f"Mean drop without the own tickets: {'; '.join(leads)}." if leads else ""
    more = {"ablation_own": against, "ablation_overall": means} if len(against) else {}
    markup = _table(means, metrics) if len(means) else ""
    return Figure("ablation", TITLE, READING, seeds, tuple(panels), table, lead, markup, more)


def _shown(table: pd.DataFrame, options: Options) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The sets that are drawn: of each kind of ticket those of the sparsities asked for."""
    found = []
    for _, rows in table.groupby([column for column in SET if column != "sparsity"], sort=True, dropna=False):
        for sparsity in nearest(rows["sparsity"], options.sparsities):
            level = rows[rows["sparsity"] == sparsity]
            found.append(({column: level[column].iloc[0] for column in SET}, level))
    return found


def _same(frame: pd.DataFrame, facts: dict[str, Any]) -> pd.Series:
    """Which rows are of a set."""
    return (frame[list(SET)] == pd.Series(facts)).all(axis=1)


def _name(facts: dict[str, Any]) -> str:
    """What a set is called: ``CLM: lape neurons kept, 99 % pruned``."""
    fill = ", filled by their mean" if facts["fill"] == "mean" else ""
    what = {"kept": "", "pruned": "what is pruned by ", "departure": "departure of "}[facts["what"]]
    level = f"{sparsity_name(round(facts['sparsity'], 4))} pruned"
    return f"{task_title(facts['task'])}: {what}{facts['score']}, {facts['granularity']}s{fill}, {level}"


def _unit(metric: MainMetric) -> str:
    if metric.title == LOG:
        return f"drop ({LOG}, nats per token)"
    return f"drop of {metric.title}, points" if metric.is_share else f"drop of {metric.title}"


def _panels(
    facts: dict[str, Any], rows: pd.DataFrame, own: pd.DataFrame, metric: MainMetric, material: Material
) -> list[Panel]:
    name, unit = _name(facts), _unit(metric)
    study = " ".join([task_title(facts["task"]), *(str(facts[c]) for c in ("score", "granularity", "what", "fill"))])
    if material.ablation["model"].nunique() > 1:
        name, study = f"{name} ({facts['model']})", f"{study} {facts['model']}"
    factor = scale(metric)
    sources, targets = in_order(rows["source"]), in_order(rows["target"])
    by_place = {(r["source"], r["target"]): factor * r["drop"] for r in rows.to_dict("records")}
    random = rows.dropna(subset=["random"]).groupby("target")["random"].mean()
    by_place |= {(RANDOM, str(target)): factor * value for target, value in random.items()}
    places = 1 if metric.is_share else 2 if max(map(abs, by_place.values())) >= 1 else 3
    beyond = [(r["source"], r["target"]) for r in rows[rows["beyond"]].to_dict("records")]
    drawing = heat_map(
        by_place,
        [*sources, *([RANDOM] if len(random) else [])],
        targets,
        Shading.of(list(by_place.values()), signed=True, decimals=places, falling=True),
        label=f"{name}: {unit}, what was taken away by what was measured",
        unit=unit,
        row_title="without",
        column_title="measured on",
        names=labels(sources),
        marked=beyond,
    )
    found = [Panel(f"{name}: drop", drawing, study, facts["sparsity"], "drop", group=name)]
    if own.empty:
        return found
    columns = {OWN: "own", OTHERS: "others", RANDOM_OWN: "random_own"}
    groups = {
        row["source"]: {series: factor * row[column] for series, column in columns.items() if pd.notna(row[column])}
        for row in own.to_dict("records")
    }
    drawing = bar_groups(
        {source: groups[source] for source in in_order(groups)},
        label=f"{name}: {unit}, of the own language and of the others",
        x_label=unit,
        order=list(columns),
        names=labels(groups),
        decimals=places,
    )
    found.append(Panel(f"{name}: own language and others", drawing, study, facts["sparsity"], "own", group=name))
    return found


def _lead(facts: dict[str, Any], rows: pd.DataFrame, mean: pd.Series, metric: MainMetric) -> str:
    spoken = rows[rows["target"].isin(set(rows["source"])) & rows["source"].isin(set(rows["target"]))]
    largest = spoken.loc[spoken.groupby("source")["drop"].idxmax()] if len(spoken) else spoken
    most = int((largest["source"] == largest["target"]).sum())
    text = f"{_name(facts)}, {_written(metric, mean['own'])} (others {_written(metric, mean['others'])}"
    text += f"; the own language loses most in {most} of {len(largest)})" if len(largest) else ")"
    return text


def _written(metric: MainMetric, value: float) -> str:
    if pd.isna(value):
        return DASH
    return f"{number(scale(metric) * value, 1)} points" if metric.is_share else number(value, 3)


def _table(means: pd.DataFrame, metrics: dict[str, MainMetric]) -> str:
    body = []
    for row in means.to_dict("records"):
        metric = metrics[str(row["task"])]
        ends = [_written(metric, row[f"excess_{end}"]) for end in ("low", "high")]
        interval = DASH if pd.isna(row["excess_low"]) else f"{ends[0]} to {ends[1]}"
        numbers = [_written(metric, row[column]) for column in ("own", "others", "random", "excess")]
        body.append((_name({str(k): v for k, v in row.items()}), *numbers, interval, str(row["languages"])))
    head = ("taken away", "own", "others", "own less others, random", "excess", "95 % interval", "languages")
    return rows_table(head, body)
