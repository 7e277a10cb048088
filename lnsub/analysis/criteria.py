"""When a ticket is a winning one, and when a transfer succeeds.

Foroutan et al. (2022, section 4) call a ticket *winning* where its metric is within one standard deviation over seeds
of the dense model's, and a transfer *successful* where it is within one standard deviation of the target's own ticket.
A deviation (n - 1) takes two seeds. With one, the binomial standard error of a share stands in for it, which knows of
the sampling of the evaluation examples alone, not of seeds; for a metric that is no share, such as perplexity, and
where the number of examples is unknown, nothing is allowed. What is better than the reference is within any tolerance.

Every table that applies the rule says in the column ``criterion`` which of these it was.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

BINOMIAL = "binomial standard error"
CHOSEN = "chosen"
NONE = "no tolerance"

SLACK = 1e-12
"""Added to every tolerance, as the difference of two decimal fractions is not exact."""


@dataclass(frozen=True)
class Tolerance:
    """How far a value may fall short of its reference.

    Attributes:
        amount: in the metric's units, at least 0; NaN where the reference is unknown.
        criterion: ``deviation over 3 seeds``, ``binomial standard error``, ``chosen``, or ``no tolerance`` where
            nothing is known and nothing allowed.
    """

    amount: float
    criterion: str

    def holds(self, gain: float) -> bool:
        """Whether a gain over the reference, negative for a loss, is within the tolerance; False where unknown."""
        return gain >= -self.amount - SLACK


def standard_error(share: float, n: float) -> float:
    """The binomial standard error sqrt(p (1 - p) / n) of a share p of n examples; NaN where either is unknown."""
    return math.sqrt(max(share * (1 - share), 0.0) / n) if n > 0 else math.nan


def tolerance(
    reference: float, *, is_share: bool, n: float, deviation: float, runs: int, chosen: float | None = None
) -> Tolerance:
    """How far a value may fall short of a reference and still match it.

    Args:
        reference: the dense model's value, or that of the target's own ticket.
        is_share: the metric lies between 0 and 1.
        n: examples that it was measured on; 0 or NaN where unknown.
        deviation: the reference's standard deviation over seeds (n - 1), NaN for one seed.
        runs: how many seeds that is over.
        chosen: a reader's own tolerance: that much of a share, or that share of ``reference`` for any other metric.

    Returns:
        ``chosen``; or else the deviation; or else, of a share, its binomial standard error; or else 0.
    """
    if math.isnan(reference):
        return Tolerance(math.nan, NONE)
    if chosen is not None:
        return Tolerance(chosen if is_share else chosen * abs(reference), CHOSEN)
    if runs > 1 and not math.isnan(deviation):
        return Tolerance(deviation, f"deviation over {runs} seeds")
    error = standard_error(reference, n) if is_share else math.nan
    return Tolerance(0.0, NONE) if math.isnan(error) else Tolerance(error, BINOMIAL)


def judged(cells: pd.DataFrame, shares: Collection[str], chosen: float | None = None) -> pd.DataFrame:
    """Tells which transfer cells succeed.

    Args:
        cells: of :func:`lnsub.analysis.transfer_cells.transfer_cells`, with ``higher_is_better``.
        shares: the names of the metrics that are shares.
        chosen: see :func:`tolerance`.

    Returns:
        The cells with ``tolerance``, ``criterion`` and ``successful``. ``successful`` is None where the target's own
        ticket was not measured, and in the cells of a source that is, or holds, the target.
    """
    held = []
    for row in cells.to_dict("records"):
        allowed = tolerance(
            row["own"],
            is_share=row["metric"] in shares,
            n=row["own_n"],
            deviation=row["own_deviation"],
            runs=0 if math.isnan(row["own_runs"]) else int(row["own_runs"]),
            chosen=chosen,
        )
        known = row["abroad"] and not math.isnan(row["own"])
        gain = row["change"] if row["higher_is_better"] else -row["change"]
        held.append((allowed.amount, allowed.criterion, allowed.holds(gain) if known else None))
    columns = ["tolerance", "criterion", "successful"]
    return cells.assign(**{c: pd.Series([h[i] for h in held], cells.index, object) for i, c in enumerate(columns)})


def successes(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Counts successful transfers.

    Args:
        cells: of :func:`judged`.
        by: the columns to count by, such as study and sparsity.

    Returns:
        A row each: ``successful`` of ``transfers``, and the ``criterion``, joined by ``and`` where there are several.
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
