"""The sparsest winning ticket of each language, as in table 2 of Foroutan et al. (2022)."""

import math
from typing import Any

import pandas as pd

from lnsub.analysis.criteria import NONE
from lnsub.analysis.transfer_cells import average
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, by_study, listed, sparsity_name
from lnsub.report.figures.metric import metric_data
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.metric_text import named, tolerance_words, unjudged_words, written
from lnsub.report.spread import seeds_of

TITLE = "Sparsest winning tickets"

OPEN = 40
"""Tables with more rows than this are folded."""


def winning_figure(material: Material, options: Options) -> Figure | Missing:
    """The sparsest winning ticket of each language beside the dense model and a random mask of the same sparsity."""
    data = winning_data(material, options)
    if data.empty:
        return Missing(TITLE, "it takes rounds of pruning (kind imp) of a dense model and of tickets")
    return winning_table(data, material, options)


def winning_table(data: pd.DataFrame, material: Material, options: Options) -> Figure:
    """The table of sparsest winning tickets.

    Args:
        data: of :func:`winning_data`.
        material: the studies and their metrics.
        options: the tolerance.
    """
    body, leads = [], []
    for study, rows in by_study(data, material.studies):
        metric = material.metrics[study]
        for row in rows.to_dict("records"):
            values = [DASH if math.isnan(row[c]) else written(metric, row[c]) for c in ("dense", "ticket", "random")]
            level = DASH if math.isnan(row["sparsity"]) else sparsity_name(row["sparsity"])
            body.append((study, row["language"], named(metric), *values[:2], level, values[2], row["criterion"]))
        levels = rows["sparsity"].dropna()
        unknown = int((rows["criterion"] == NONE).sum())
        if len(levels):
            ends = listed([sparsity_name(level) for level in dict.fromkeys((levels.min(), levels.max()))])
            ends = ends.replace(" and ", " to ")
            leads.append(f"{study} {ends} ({len(levels)} of {len(rows) - unknown} languages)")
        elif unknown < len(rows):
            leads.append(f"{study} none ({len(rows) - unknown} languages)")
    words = tolerance_words(data["criterion"], material.metrics.values(), options.tolerance)
    rule = f": it falls short of the dense model by no more than {words}" if words else ""
    reading = (
        f"The ticket of the highest sparsity that is a winning one{rule}. That it wins at every lower sparsity too is "
        "not asked for; the CSV says where it does. Beside it a random mask of the same sparsity, where there is one."
        f"{unjudged_words(data['criterion'])} There is no interval; the tolerance is none."
    )
    if data["random"].isna().all():
        reading += " Random masks were not measured."
    seeds = seeds_of(material, material.records[material.records["kind"] == "imp"], ("target", "sparsity"))
    lead = f"The highest sparsity at which a ticket wins: {'; '.join(leads)}." if leads else ""
    head = ("study", "language", "metric", "dense", "ticket", "sparsity", "random mask", "criterion")
    table = rows_table(head, body, folded=f"All {len(body)} languages" if len(body) > OPEN else "")
    return Figure("winning_tickets", TITLE, reading, seeds, (), data, lead, table)


def winning_data(material: Material, options: Options) -> pd.DataFrame:
    """The sparsest winning ticket of each language.

    Returns:
        A row a study and language with a dense model and a pruned ticket: ``dense``, ``ticket``, its ``sparsity``
        (both NaN where no ticket wins), ``random`` (NaN where no random mask of that sparsity was measured),
        ``tolerance`` and ``criterion`` (see :class:`lnsub.analysis.criteria.Verdict`), and ``all_lower_win``: whether
        every measured ticket of a lower sparsity wins too. Where no ticket has a verdict there is none either.
    """
    rounds = material.records[material.records["kind"] == "imp"]
    if rounds.empty:
        return pd.DataFrame()
    data = metric_data(rounds, material, options)
    data = data[data["dense"].notna() & (data["sparsity"] > 0)]
    random = random_values(material)
    rows = []
    for (study, named_language), group in data.groupby(["study", "language"], sort=False):
        language = str(named_language)
        won = group[group["best"]]
        found: dict[str, Any] = {"sparsity": math.nan, "ticket": math.nan, "all_lower_win": False}
        if len(won):
            sparsity = float(won["sparsity"].iloc[0])
            lower = group[group["sparsity"] < sparsity]
            found = {"sparsity": sparsity, "ticket": float(won["value"].iloc[0])}
            found["all_lower_win"] = bool(lower["matches"].eq(True).all())
        one = (won if len(won) else group).iloc[0]
        facts = {column: one[column] for column in ("model", "task", "score", "scope", "metric", "higher_is_better")}
        rows.append(
            {"study": study, **facts, "language": language, "dense": one["dense"]}
            | {"ticket": found["ticket"], "sparsity": found["sparsity"]}
            | {"random": random.get((one["model"], one["task"], language, found["sparsity"]), math.nan)}
            | {column: one[column] for column in ("tolerance", "criterion")}
            | {"all_lower_win": found["all_lower_win"]}
        )
    return pd.DataFrame(rows)


def random_values(material: Material) -> dict[tuple[str, str, str, float], float]:
    """What random masks reach: the mean over runs by model, task, target and sparsity."""
    records = material.records
    chosen = records[(records["variant"] == "random") & (records["kind"] == "transfer")]
    rows = average(chosen, ["model", "task", "target", "sparsity"]).to_dict("records")
    return {(row["model"], row["task"], row["target"], row["sparsity"]): row["value"] for row in rows}
