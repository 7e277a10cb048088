"""When a ticket is a winning one, and when a transfer succeeds.

Foroutan et al. (2022, section 4) call a ticket *winning* where its metric is within one standard deviation over seeds
of the dense model's, and a transfer *successful* where it is within one standard deviation of the target's own ticket.
A deviation (n - 1) takes two seeds. With one, a ticket has to be non-inferior on the examples that both were measured
on: worse by less than a margin, with 95 % confidence, see :mod:`lnsub.analysis.non_inferiority`. Where what each
example added was not kept, there is no verdict. The margins are :data:`MARGIN` and :data:`RELATIVE_MARGIN`.

A reference that is not above chance (:attr:`lnsub.tasks.task.Task.chance`) with 95 % confidence is matched by nothing:
all models that have learnt nothing are as good as each other.

Every table that applies the rule says in the column ``criterion`` which of these it was.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.non_inferiority import Metric, f1, matched, share
from lnsub.runs.examples import Examples, load

MARGIN = 0.01
"""How much of an accuracy or an F1 may be lost, with one seed: one point.

About what MLPerf Inference lets a quantised model lose, which keeps 99 % of its reference's quality (Reddi et al.,
2020, https://arxiv.org/abs/1911.02549)."""
RELATIVE_MARGIN = 0.05
"""What share of a perplexity may be added, with one seed; a choice, as the field has no usual one."""

BINOMIAL = "binomial standard error"
CHOSEN = "chosen"
PAIRED = "non-inferior on the same examples"
AT_CHANCE = "reference at chance"
NONE = "no verdict"
NOTHING = "no tolerance"

SLACK = 1e-12
"""Added to every tolerance, as the difference of two decimal fractions is not exact."""

_THINGS = ("pairs", "words", "tokens")


@dataclass(frozen=True)
class Measured:
    """A value over one run or several.

    Attributes:
        value: the mean, NaN where unknown.
        deviation: its standard deviation over runs (n - 1), NaN for one run.
        runs: how many.
        examples: of a single run, the file of what each example added; empty where there is none.
    """

    value: float
    deviation: float = math.nan
    runs: int = 1
    examples: str = ""

    @classmethod
    def of(cls, row: Mapping[Any, Any], prefix: str = "") -> "Measured":
        """Reads the columns of :func:`lnsub.analysis.transfer_cells.average`, or of its ``own`` values.

        Args:
            row: a row.
            prefix: what the columns' names begin with.
        """
        value = row[prefix.removesuffix("_") or "value"]
        runs = row[f"{prefix}runs"]
        examples = row.get(f"{prefix}examples")
        runs = 0 if math.isnan(runs) else int(runs)
        return cls(value, row[f"{prefix}deviation"], runs, examples if isinstance(examples, str) and runs == 1 else "")


@dataclass(frozen=True)
class Verdict:
    """Whether a value matches its reference.

    Attributes:
        tolerance: how far it may fall short, in the metric's units, at least 0; NaN where there is no verdict.
        criterion: ``deviation over 3 seeds``, ``non-inferior on the same examples``, ``reference at chance``,
            ``chosen``, or ``no verdict``.
        holds: whether it does; None where nothing is known.
    """

    tolerance: float
    criterion: str
    holds: bool | None


def standard_error(share: float, n: float) -> float:
    """The binomial standard error sqrt(p (1 - p) / n) of a share p of n examples; NaN where either is unknown."""
    return math.sqrt(max(share * (1 - share), 0.0) / n) if n > 0 else math.nan


def verdict(found: Measured, reference: Measured, metric: MainMetric, chosen: float | None = None) -> Verdict:
    """Judges a value by its reference.

    Args:
        found: a ticket's value.
        reference: the dense model's value, or that of the target's own ticket.
        metric: the metric of both.
        chosen: a reader's own tolerance: that much of a share, or that share of the reference for any other metric.

    Returns:
        By the chosen tolerance; or else by the reference's deviation over seeds; or else by the examples of both.
    """
    if math.isnan(reference.value) or math.isnan(found.value):
        return Verdict(math.nan, NONE, None)
    gain = metric.sign * (found.value - reference.value)
    if chosen is not None:
        allowed = chosen if metric.is_share else chosen * abs(reference.value)
        return Verdict(allowed, CHOSEN, gain >= -allowed - SLACK)
    if reference.runs > 1 and not math.isnan(reference.deviation):
        if not _above_chance(reference, metric):
            return Verdict(reference.deviation, AT_CHANCE, False)
        criterion = f"deviation over {reference.runs} seeds"
        return Verdict(reference.deviation, criterion, gain >= -reference.deviation - SLACK)
    return _on_the_same_examples(found, reference, metric)


def _above_chance(reference: Measured, metric: MainMetric) -> bool:
    """Whether the one-sided 95 % bound of a mean over runs exceeds chance."""
    if metric.chance is None:
        return True
    error = reference.deviation / math.sqrt(reference.runs)
    return reference.value - float(stats.t.ppf(0.95, reference.runs - 1)) * error > metric.chance


def _on_the_same_examples(found: Measured, reference: Measured, metric: MainMetric) -> Verdict:
    ours, its = (load(Path(one.examples)) if one.examples else None for one in (found, reference))
    if ours is None or its is None or not _same(ours, its) or (how := _sums_of(metric, its)) is None:
        return Verdict(math.nan, NONE, None)
    columns, value, margin = how
    model, dense = (np.stack([one.counts[name] for name in columns], axis=1) for one in (ours, its))
    made = matched(
        model,
        dense,
        value,
        margin=margin,
        chance=-math.inf if metric.chance is None else metric.chance,
    )
    tolerance = margin if metric.is_share else RELATIVE_MARGIN * abs(reference.value)
    return Verdict(tolerance, PAIRED if made.above_chance else AT_CHANCE, made.matches)


def _same(ours: Examples, its: Examples) -> bool:
    """Whether two evaluations were of the same examples."""
    if not len(its) or ours.counts.keys() != its.counts.keys() or not np.array_equal(ours.index, its.index):
        return False
    given = [name for name in (*_THINGS, "gold") if name in its.counts]
    return all(np.array_equal(ours.counts[name], its.counts[name]) for name in given)


def _sums_of(metric: MainMetric, examples: Examples) -> tuple[list[str], Metric, float] | None:
    """The columns that a metric is made of, the function of their sums that is better when higher, and its margin."""
    things = next((name for name in _THINGS if name in examples.counts), "")
    needed: dict[str, tuple[list[str], Metric, float]] = {
        "accuracy": (["correct", things], share, MARGIN),
        "f1": (["hits", "predicted", "gold"], f1, MARGIN),
        # A perplexity 5 % higher is a mean loss log(1.05) higher.
        "perplexity": (["nats", things], lambda sums: -share(sums), math.log1p(RELATIVE_MARGIN)),
    }
    found = needed.get(metric.name)
    return found if found and set(found[0]) <= examples.counts.keys() else None


def published_verdict(found: Measured, reference: Measured, metric: MainMetric, n: float) -> Verdict:
    """Judges published values, of which neither deviations nor examples are known.

    Args:
        found: a ticket's value.
        reference: its reference.
        metric: the metric of both.
        n: the examples that the paper measured on; 0 or NaN where that is unknown.

    Returns:
        Within one binomial standard error of a share; of any other metric, at the reference's value or better.
    """
    if math.isnan(reference.value):
        return Verdict(math.nan, NONE, None)
    error = standard_error(reference.value, n) if metric.is_share else math.nan
    allowed, criterion = (0.0, NOTHING) if math.isnan(error) else (error, BINOMIAL)
    return Verdict(allowed, criterion, metric.sign * (found.value - reference.value) >= -allowed - SLACK)


def judged(
    cells: pd.DataFrame, metrics: Mapping[str, MainMetric], chosen: float | None = None, *, published: bool = False
) -> pd.DataFrame:
    """Tells which transfer cells succeed.

    Args:
        cells: of :func:`lnsub.analysis.transfer_cells.transfer_cells`.
        metrics: the main metrics by task.
        chosen: see :func:`verdict`.
        published: whether the values are published ones, see :func:`published_verdict`.

    Returns:
        The cells with ``tolerance``, ``criterion`` and ``successful``. ``successful`` is None where there is no
        verdict, as where the target's own ticket was not measured, and in the cells of a source that is, or holds, the
        target.
    """
    held = []
    for row in cells.to_dict("records"):
        found, own, metric = Measured.of(row), Measured.of(row, "own_"), metrics.get(row["task"])
        if metric is None or not row["abroad"]:
            made = Verdict(math.nan, NONE, None)
        elif published and chosen is None:
            made = published_verdict(found, own, metric, row["own_n"])
        else:
            made = verdict(found, own, metric, chosen)
        held.append((made.tolerance, made.criterion, made.holds))
    columns = ["tolerance", "criterion", "successful"]
    return cells.assign(**{c: pd.Series([h[i] for h in held], cells.index, object) for i, c in enumerate(columns)})


def successes(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Counts successful transfers.

    Args:
        cells: of :func:`judged`.
        by: the columns to count by, such as study and sparsity.

    Returns:
        A row each: ``successful`` of ``transfers``, and the ``criterion``, joined by ``and`` where there are several.
        What has no verdict counts in neither.
    """
    known = cells[cells["successful"].notna()]
    if known.empty:
        return pd.DataFrame(columns=[*by, "successful", "transfers", "criterion"])
    groups = known.groupby(by, sort=False)
    return groups.agg(
        successful=("successful", lambda found: int(found.astype(bool).sum())),
        transfers=("successful", "size"),
        criterion=("criterion", criteria_named),
    ).reset_index()


def criteria_named(criteria: Collection[str]) -> str:
    """The different criteria that were applied, as text."""
    return " and ".join(sorted(set(criteria)))
