"""What findings are judged by, and how clauses become a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from lnsub.analysis.transfer_cells import relative_drop

CONFIRMED, REFUTED, NOT_TESTED = "confirmed", "refuted", "not tested"

TITLES = {"mlm": "MLM", "wikiann": "NER", "xnli": "XNLI"}

Clause = tuple[bool | None, str]


@dataclass(frozen=True)
class Evidence:
    """What findings are judged by, of one model, score and scope. Every frame may be empty."""

    cells: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Transfer cells, of :func:`lnsub.analysis.criteria.judged`."""
    winning: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task``, ``language`` and ``sparsity`` of the sparsest winning ticket, NaN where none wins."""
    rounds: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task``, ``language``, ``sparsity``, ``value``, ``dense`` and ``higher_is_better`` of rounds of pruning."""
    random: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task``, ``target``, ``sparsity`` and ``value`` of random masks."""
    overlap: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task``, ``relation`` (``languages``, ``seeds``) and the mean overlap ``value``, at 50 %."""
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task``, ``layer`` (int) and the mean overlap ``value`` of languages, at 50 %."""
    correlations: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``task`` and the ``p`` of the correlation of overlap with transfer, at 50 %."""
    mixtures: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Of :func:`lnsub.analysis.mixtures.mixture_data`."""
    across: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``target_task``, ``source_task``, ``language``, ``difference`` (metric's sign), ``successful``, ``sparsity``."""
    retrieval: pd.DataFrame = field(default_factory=pd.DataFrame)
    """``system`` (``dense``, or the task of tickets), ``layer`` and accuracy ``value``, a row each."""


@dataclass(frozen=True)
class Finding:
    """A finding and what became of it: ``numbers`` is the sentence that says why."""

    number: int
    claim: str
    verdict: str
    numbers: str


def finding(number: int, claim: str, clauses: Sequence[Clause]) -> Finding:
    """Makes a finding of its clauses: each holds, fails or was not tested (None), with the numbers that say so."""
    known = [holds for holds, _ in clauses if holds is not None]
    verdict = NOT_TESTED if not known else CONFIRMED if all(known) else REFUTED
    said = [text if holds else f"not so: {text}" for holds, text in clauses if holds is not None]
    untested = [text for holds, text in clauses if holds is None]
    said += [f"not tested: {', '.join(untested)}"] if untested else []
    text = "; ".join(said)
    return Finding(number, claim, verdict, f"{text[:1].upper()}{text[1:]}.")


def at(rows: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """The rows at the sparsity of each that is nearest to one asked for, no more than five points away."""
    if rows.empty:
        return rows
    away = (rows["sparsity"] - sparsity).abs()
    return rows[(away <= 0.05 + 1e-9) & (away <= away.min() + 1e-9)]


def mean_loss(evidence: Evidence, task: str, sparsity: float) -> float | None:
    """The mean relative drop over single source languages as a loss, a share; None where it was not measured."""
    cells = evidence.cells[evidence.cells["task"] == task] if len(evidence.cells) else evidence.cells
    cells = at(cells, sparsity)
    drops = relative_drop(cells) if len(cells) else cells
    if drops.empty:
        return None
    drops = drops[~drops["source"].str.contains("+", regex=False)]
    return float(losses_of(drops["drop"], drops["higher_is_better"]).mean()) if len(drops) else None


def losses_of(changes: pd.Series, higher_is_better: pd.Series) -> pd.Series:
    """Changes of a metric turned so that a positive one is a loss."""
    return changes.where(~higher_is_better.astype(bool), -changes).astype(float)


def overlaps(evidence: Evidence, relation: str) -> dict[str, float]:
    """The mean overlap by task of pairs of one relation, ``languages`` or ``seeds``."""
    rows = evidence.overlap
    if rows.empty:
        return {}
    means = rows[rows["relation"] == relation].groupby("task")["value"].mean()
    return {str(task): float(value) for task, value in means.items() if task in TITLES}


def percent(share: float, decimals: int = 1) -> str:
    """Writes a share in percent."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def shares(values: dict[str, float], order: Sequence[str] = ()) -> str:
    """Writes a share of each task in percent."""
    return ", ".join(f"{TITLES.get(task, task)} {percent(values[task])}" for task in order or values)
