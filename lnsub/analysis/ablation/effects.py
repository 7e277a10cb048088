"""What removals do: each language's drop, beside random removals, and the own language's beside the others'.

The *drop* is how much worse the main metric is than the dense model's: its fall, or the rise of one that is better when
lower. A perplexity is compared by its logarithm, the loss in nats per token, so that a drop of 0.1 is as much in a
language of perplexity 8 as in one of 50.

*Random* removals take as many units from the same places. A mean over k tickets is beyond them where it is outside the
95 % prediction interval of a mean of k further draws: mean ± t(n - 1) s sqrt(1/k + 1/n), with n draws of standard
deviation s. *Own against others* is the drop of the ticket's own language less the mean drop of the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lnsub.analysis.main_metric import MainMetric, main_metrics
from lnsub.runs.records import ABLATION

SET = ("model", "task", "score", "granularity", "what", "fill", "split", "sparsity")
"""What the tickets of one table have in common; ``what`` is what was taken away, of random removals in whose place."""

LOG = "log-perplexity"
"""What the drop of a perplexity is of, in nats per token."""


@dataclass(frozen=True)
class Spread:
    """What random removals say of a mean: their own mean, and how far another mean may be from it by chance.

    Attributes:
        mean: of the draws; NaN without any.
        deviation: their standard deviation; NaN of fewer than two.
        draws: how many there are.
    """

    mean: float
    deviation: float
    draws: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Spread":
        """The spread of the draws' values."""
        found = np.asarray(values, float)
        n = found.size
        return cls(float(found.mean()) if n else math.nan, float(found.std(ddof=1)) if n > 1 else math.nan, n)

    def interval(self, tickets: int) -> tuple[float, float]:
        """The 95 % prediction interval of a mean of so many further draws; NaN of fewer than two draws."""
        from scipy.stats import t

        if self.draws < 2:
            return math.nan, math.nan
        half = t.ppf(0.975, self.draws - 1) * self.deviation * math.sqrt(1 / tickets + 1 / self.draws)
        return self.mean - half, self.mean + half

    def columns(self, value: float, tickets: int) -> dict[str, Any]:
        """The columns ``random``, ``random_sd``, ``draws``, ``low``, ``high``, ``z`` and ``beyond`` of a mean."""
        low, high = self.interval(tickets)
        z = (value - self.mean) / self.deviation if self.deviation > 0 else math.nan
        return {
            "random": self.mean,
            "random_sd": self.deviation,
            "draws": self.draws,
            "low": low,
            "high": high,
            "z": z,
            "beyond": value < low or value > high,
        }


def drop_metric(metric: MainMetric) -> MainMetric:
    """The metric whose drops are shown: of a perplexity its logarithm, which tasks record as ``loss``."""
    return MainMetric("loss", LOG, False, False) if metric.name == "perplexity" else metric


def drops(frame: pd.DataFrame) -> pd.DataFrame:
    """Finds each measurement's drop.

    Args:
        frame: records, of any kinds and metrics.

    Returns:
        The records of ablations, without the dense ones, of the metric that :func:`drop_metric` says, with ``what``,
        ``dense`` and ``drop``; and ``sparsity`` made one of what are the tickets of one table: where each run has one
        ticket, their mean, as units that were chosen over all languages together are not equally many in each.
    """
    rows = frame[frame["kind"] == ABLATION]
    if rows.empty:
        return pd.DataFrame()
    chosen = {task: drop_metric(metric) for task, metric in main_metrics(rows).items()}
    rows = rows[rows["metric"] == rows["task"].map({task: metric.name for task, metric in chosen.items()})]
    place = ["model", "task", "split", "target"]
    dense = rows[rows["removed"] == "none"].groupby(place)["value"].mean().rename("dense").reset_index()
    rows = rows[rows["removed"] != "none"].merge(dense, on=place)
    if rows.empty:
        return pd.DataFrame()
    sign = rows["task"].map({task: metric.sign for task, metric in chosen.items()})
    what = rows["removed"].where(rows["removed"] != "random", rows["drawn_for"])
    rows = rows.assign(what=what, drop=-sign * (rows["value"] - rows["dense"]))
    alike = [column for column in SET if column != "sparsity"]
    groups = [_one_level(group) for _, group in rows.groupby(alike, sort=False, dropna=False)]
    return pd.concat(groups, ignore_index=True)


def _one_level(rows: pd.DataFrame) -> pd.DataFrame:
    per_run = rows.groupby(["source", "source_task", "source_seed"], dropna=False)["sparsity"].nunique()
    level = rows["sparsity"].mean() if per_run.max() == 1 else rows["sparsity"]
    return rows.assign(sparsity=np.round(level, 6))


def cells(found: pd.DataFrame) -> pd.DataFrame:
    """Averages drops over the tickets of a language: the table of source by target.

    Args:
        found: of :func:`drops`.

    Returns:
        A row a :data:`SET`, ``source`` and ``target``: ``metric``, ``dense``, ``value``, ``drop``, the columns of
        :meth:`Spread.columns`, ``units`` (mean) and ``tickets``.
    """
    rows = []
    for key, group in _groups(found, [*SET, "source", "target"]):
        own, draws = group[group["draw"].isna()], group[group["draw"].notna()]
        if own.empty:
            continue
        value = float(own["drop"].mean())
        facts = {"metric": group["metric"].iloc[0], "dense": group["dense"].iloc[0], "value": own["value"].mean()}
        spread = Spread.of(draws["drop"].to_numpy()).columns(value, len(own))
        rows.append(key | facts | {"drop": value} | spread | {"units": own["units"].mean(), "tickets": len(own)})
    return pd.DataFrame(rows)


def own_against_others(found: pd.DataFrame) -> pd.DataFrame:
    """Finds how much more a language loses by its own tickets than others do.

    Args:
        found: of :func:`drops`.

    Returns:
        A row a :data:`SET` and ``source`` that was measured on too: ``own`` (the mean drop of the source, or of a
        mixture's languages), ``others`` (that of all other targets), ``random_own`` (the source's by random
        removals), ``difference``, the columns of :meth:`Spread.columns` on the difference, ``targets`` (others) and
        ``tickets``.
    """
    rows = []
    for key, group in _groups(found, [*SET, "source"]):
        spoken = {key["source"], *str(key["source"]).split("+")}
        mine = group["target"].isin(spoken)
        removal = [group["ticket"], group["draw"].fillna(-1)]
        own, others = (part.groupby(removal)["drop"].mean() for part in (group[mine], group[~mine]))
        each = pd.DataFrame({"own": own, "others": others}).dropna()
        random = each.index.get_level_values("draw") >= 0
        of_tickets, of_draws = each[~random], each[random]
        if of_tickets.empty:
            continue
        means = {column: float(of_tickets[column].mean()) for column in ("own", "others")}
        value = means["own"] - means["others"]
        spread = Spread.of((of_draws["own"] - of_draws["others"]).to_numpy()).columns(value, len(of_tickets))
        means |= {"random_own": float(of_draws["own"].mean()) if len(of_draws) else math.nan}
        counts = {"targets": group.loc[~mine, "target"].nunique(), "tickets": len(of_tickets)}
        rows.append(key | means | {"difference": value} | spread | counts)
    return pd.DataFrame(rows)


def overall(against: pd.DataFrame) -> pd.DataFrame:
    """Averages own against others over languages.

    Args:
        against: of :func:`own_against_others`.

    Returns:
        A row a :data:`SET`: ``own``, ``others``, ``difference`` and ``random`` (means over languages), ``excess``
        (difference less random, where there is any), with its 95 % t interval over languages ``excess_low`` to
        ``excess_high`` (NaN of one language), and ``languages``.
    """
    from scipy.stats import t

    rows = []
    for key, group in _groups(against, list(SET)):
        group = group[np.isfinite(group["difference"])]  # without languages whose loss overflowed
        if group.empty:
            continue
        means = {column: float(group[column].mean()) for column in ("own", "others", "difference", "random")}
        excess = (group["difference"] - group["random"].fillna(0.0)).to_numpy()
        n = len(excess)
        half = t.ppf(0.975, n - 1) * excess.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
        mean = float(excess.mean())
        interval = {"excess": mean, "excess_low": mean - half, "excess_high": mean + half}
        rows.append(key | means | interval | {"languages": n})
    return pd.DataFrame(rows)


def _groups(frame: pd.DataFrame, columns: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    if frame.empty:
        return []
    groups = frame.groupby(columns, sort=True, dropna=False)
    return [(dict(zip(columns, key, strict=True)), group) for key, group in groups]
