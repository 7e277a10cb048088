"""What each kind of ticket reaches against the targets' own: a mixed model of the transfers."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.mixed_model import FACTORS, FEWEST, FOREIGN, OWN, REST, Fit, mixed_model
from lnsub.charts.text import number
from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Options, by_level, nearest, percent, sparsity_name
from lnsub.report.figures.baselines import own_first, variant_names
from lnsub.report.html_tables import DASH, rows_table
from lnsub.report.metric_text import change_unit, decimals, scale, written_change
from lnsub.report.spread import seeds_of

TITLE = "Own, foreign and other tickets: a mixed model"
READING = (
    "How far fine-tuning under each kind of ticket or mask ends above or below that under the target's own ticket, as "
    "fixed effects of a mixed model at each sparsity: metric = kind + source + target + seed + what source and target, "
    "and target and seed, have together + rest. All but the kind are random effects, crossed, fitted by restricted "
    "maximum likelihood. The 95 % t interval, with Satterthwaite's degrees of freedom (df), speaks of languages and "
    "seeds like these. p is two-sided and not adjusted for the number of kinds. Own and foreign tickets make one "
    "model, to which each other kind is added by itself, so that the scatter of random masks does not count as that of "
    "tickets. The second table has the shares of the variance of own and foreign tickets. Tickets of mixtures are left "
    "out."
)


def ticket_kinds_figure(material: Material, options: Options) -> Figure | Missing:
    """The effects of kinds of tickets, and what the metric varies by."""
    effects, shares, leads, reasons = list[dict[str, Any]](), list[dict[str, Any]](), [], []
    used = []
    for study, sparsity, rows in _parts(material, options):
        model = mixed_model(_fits(rows))
        if model.reason:
            reasons.append(f"of {study} at {sparsity_name(sparsity)}, {model.reason}")
            continue
        used.append(rows)
        facts = {"study": study, "sparsity": sparsity}
        metric = material.metrics[study]
        facts_of_it = facts | {"metric": metric.name, "higher_is_better": metric.higher_is_better}
        effects += [facts_of_it | row for row in model.effects]
        shares += [facts | {"deviation": model.deviation, **(model.shares or {})}]
        leads += [(study, sparsity, _lead(row, metric)) for row in model.effects if row["kind"] == FOREIGN]
    if not effects:
        needs = f"it takes transfers of own tickets of {FEWEST} languages and of tickets or masks of another kind"
        return Missing(TITLE, "; ".join(reasons) or needs)
    reading = READING + (f" There is no model where it cannot be fitted: {'; '.join(reasons)}." if reasons else "")
    return Figure(
        "ticket_kinds",
        TITLE,
        reading,
        seeds_of(material, pd.concat(used)),
        (),
        pd.DataFrame(effects),
        f"Foreign tickets against own, by a mixed model: {by_level(leads)}." if leads else "",
        _effects_table(effects, material) + _shares_table(shares, material),
        {"variance_shares": pd.DataFrame(shares)},
    )


def _parts(material: Material, options: Options) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Study, sparsity, and the transfers there with their ``kind``, of the sparsities that are shown."""
    records = material.records
    moved = records[records["kind"].isin(["transfer", "dense"])]
    moved = moved[~moved["target"].str.contains("+", regex=False)]
    foreign = moved["source"].notna() & (moved["source"] != moved["target"])
    moved = moved.assign(ticket_kind=moved["variant"])
    moved.loc[moved["variant"] == "ticket", "ticket_kind"] = foreign.map({True: FOREIGN, False: OWN})
    for study in material.studies:
        inside = moved[(moved["study"] == study) & (moved["variant"] == "ticket")]
        inside = inside[~inside["source"].str.contains("+", regex=False)]
        if inside.empty:
            continue
        near = moved[(moved["model"] == inside["model"].iloc[0]) & (moved["task"] == inside["task"].iloc[0])]
        near = near[near["variant"].isin(list(variant_names(set(near["variant"]))))]
        for sparsity in nearest(inside["sparsity"], options.sparsities):
            there = near[(near["sparsity"] == sparsity) | (near["variant"] == "dense")]
            rows = pd.concat([inside[inside["sparsity"] == sparsity], own_first(there)])
            yield study, sparsity, rows[rows["target"].isin(set(inside["target"]))]


def _fits(rows: pd.DataFrame) -> list[Fit]:
    """The fits; what was measured twice counts once, by its mean."""
    rows = rows.assign(source=rows["source"].fillna(""), ticket=rows["ticket"].fillna(""))
    once = rows.groupby(["ticket_kind", "source", "ticket", "target", "seed"])["value"].mean().reset_index()
    return [
        Fit(
            kind=row["ticket_kind"],
            source=row["source"] if row["ticket_kind"] in {OWN, FOREIGN} else "",
            mask=row["source"],
            target=row["target"],
            seed=int(row["seed"]),
            value=float(row["value"]),
        )
        for row in once.to_dict("records")
    ]


def _lead(row: dict[str, Any], metric: MainMetric) -> str:
    return f"{written_change(metric, row['effect'])} ({_interval(row, metric)})"


def _interval(row: dict[str, Any], metric: MainMetric) -> str:
    if row["low"] is None:
        return DASH
    low, high = (number(scale(metric) * row[end], decimals(metric)) for end in ("low", "high"))
    return f"{low} to {high}"


def _effects_table(effects: list[dict[str, Any]], material: Material) -> str:
    names = variant_names({row["kind"] for row in effects})
    body = []
    places, order = (
        {study: at for at, study in enumerate(material.studies)},
        {kind: at for at, kind in enumerate(names)},
    )
    for row in sorted(effects, key=lambda row: (places[row["study"]], row["sparsity"], order[row["kind"]])):
        metric = material.metrics[row["study"]]
        body.append(
            (
                row["study"],
                sparsity_name(row["sparsity"]),
                names[row["kind"]],
                f"{number(scale(metric) * row['effect'], decimals(metric))} {change_unit(metric)}",
                number(scale(metric) * row["error"], decimals(metric) + 1),
                _interval(row, metric),
                number(row["freedom"], 1),
                DASH if row["p"] is None else "under 0.001" if row["p"] < 0.001 else number(row["p"], 3),
                str(row["fits"]),
            )
        )
    head = ("study", "sparsity", "against own", "effect", "standard error", "95 % interval", "df", "p", "fits")
    return rows_table(head, body)


def _shares_table(shares: list[dict[str, Any]], material: Material) -> str:
    columns = [name for name in (*FACTORS, REST) if any(name in row for row in shares)]
    body = [
        (
            row["study"],
            sparsity_name(row["sparsity"]),
            *(percent(row[name]) if name in row else DASH for name in columns),
            written_change(material.metrics[row["study"]], row["deviation"]),
        )
        for row in shares
    ]
    return rows_table(("study", "sparsity", *(f"by {name}" for name in columns), "standard deviation"), body)
