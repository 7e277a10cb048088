"""Figures of a report, and what all of them use."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lnsub.charts.drawing import Drawing
from lnsub.charts.text import number


@dataclass(frozen=True)
class Primary:
    """A primary endpoint: language against data sample, see :mod:`lnsub.analysis.overlap.contrast`.

    Attributes:
        task: the tickets'.
        sparsity: likewise.
        runs: the two sets of runs, by the names of their folders.
        measure: a column of pairs.
    """

    task: str
    sparsity: float
    runs: tuple[str, str]
    measure: str = "departure_corrected"


@dataclass(frozen=True)
class Options:
    """What can be chosen of a report.

    Attributes:
        sparsities: those that heat maps and bars show; of each study the nearest that it has.
        tolerance: how far a ticket may fall short of the dense model and still match it, see
            :func:`lnsub.analysis.criteria.verdict`; None for the criteria over seeds and examples.
        primary: the endpoint that is shown first; None for none.
    """

    sparsities: tuple[float, ...] = (0.5, 0.8)
    tolerance: float | None = None
    primary: Primary | None = None


@dataclass(frozen=True)
class Panel:
    """One drawing.

    Attributes:
        title: as plain text.
        drawing: the chart, and its table.
        study: whose it is, which names its file; empty for all.
        sparsity: the one that it shows, or none.
        part: what tells it from other panels of the same study and sparsity.
        group: neighbours of one group stay side by side where there is room.
    """

    title: str
    drawing: Drawing
    study: str = ""
    sparsity: float | None = None
    part: str = ""
    group: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure with the text around it.

    Attributes:
        name: of the anchor and of the CSV file.
        title: as plain text.
        reading: what is drawn and how to read it, as plain text.
        seeds: how many seeds it is over, see :mod:`lnsub.report.spread`.
        panels: the drawings.
        data: what is drawn, for the CSV file.
        lead: its main numbers in a sentence, for the summary; empty for none.
        table: markup below the drawings.
        more: further tables, each a CSV file of its own, by name.
    """

    name: str
    title: str
    reading: str
    seeds: str
    panels: tuple[Panel, ...]
    data: pd.DataFrame
    lead: str = ""
    table: str = ""
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """A figure without data: its title, the reason, and whether it was asked for by name, as the summary then says."""

    title: str
    reason: str
    asked: bool = False


def nearest(available: Iterable[float], asked: Sequence[float]) -> list[float]:
    """Picks the available sparsity nearest to each one asked for.

    Args:
        available: sparsities; 0, the dense model, is ignored.
        asked: sparsities.

    Returns:
        Each at most once, ascending.
    """
    there = sorted({float(s) for s in available if s > 0})
    return sorted({min(there, key=lambda s: (round(abs(s - a), 9), s)) for a in asked}) if there else []


def percent(share: float) -> str:
    """Writes a share in percent, with a true minus sign: ``94.7 %``."""
    return f"{number(100 * share, 1)}\u00a0%"


def sparsity_name(sparsity: float) -> str:
    """A sparsity in percent with as many decimals as it needs: ``50 %``, ``87.5 %``."""
    return f"{100 * sparsity:g}\u00a0%"


def pruned_name(sparsity: float) -> str:
    """What a legend calls the series of a sparsity: ``50 % pruned``."""
    return f"{sparsity_name(sparsity)} pruned"


def extremes(rows: pd.DataFrame, column: str) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The rows with the lowest and the highest value of a column, as dicts; of equal ones the first."""
    listed = rows[rows[column].notna()].to_dict("records")
    return min(listed, key=lambda row: row[column]), max(listed, key=lambda row: row[column])


def listed(words: Sequence[str]) -> str:
    """Joins words: ``a, b and c``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def by_level(parts: Sequence[tuple[str, float, str]]) -> str:
    """Joins texts on studies and sparsities: ``XNLI a at 50 % and b at 80 %; NER c at 50 %``.

    Args:
        parts: study, sparsity and text, in order.
    """
    texts: dict[str, list[str]] = {}
    for study, sparsity, text in parts:
        texts.setdefault(study, []).append(f"{text} at {sparsity_name(sparsity)}")
    return "; ".join(f"{study} {listed(words)}" for study, words in texts.items())


def by_study(data: pd.DataFrame, studies: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Splits a frame by its column ``study``, in the order given; studies without rows are left out."""
    if data.empty:
        return []
    return [(study, part) for study in studies if not (part := data[data["study"] == study]).empty]


def by_panel(data: pd.DataFrame, studies: Sequence[str], options: Options) -> list[tuple[str, float, pd.DataFrame]]:
    """Splits a frame by study and by those of its sparsities that are shown: study, sparsity and rows."""
    return [
        (study, sparsity, rows[rows["sparsity"] == sparsity])
        for study, rows in by_study(data, studies)
        for sparsity in nearest(rows["sparsity"], options.sparsities)
    ]


def joined(data: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenates frames; an empty frame for none."""
    parts = [part for part in data if not part.empty]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
