"""How figures write the values of a main metric: shares in percent, and which way is better."""

from collections.abc import Iterable

from lnsub.analysis.criteria import BINOMIAL, NONE
from lnsub.analysis.main_metric import MainMetric
from lnsub.charts.text import number
from lnsub.report.figure import listed


def scale(metric: MainMetric) -> float:
    """By how much values are multiplied before they are shown."""
    return 100.0 if metric.is_share else 1.0


def decimals(metric: MainMetric) -> int:
    """How many decimals its shown values have."""
    return 1 if metric.is_share else 2


def named(metric: MainMetric) -> str:
    """The metric's name, with its direction where it is not the usual one: ``F1``, ``perplexity (lower is better)``."""
    return metric.title if metric.higher_is_better else f"{metric.title} (lower is better)"


def with_unit(metric: MainMetric) -> str:
    """What an axis of its values is called: ``F1, %`` or ``perplexity (lower is better)``."""
    return f"{named(metric)}, %" if metric.is_share else named(metric)


def change_unit(metric: MainMetric) -> str:
    """The unit of a change: ``points`` of a share, else the metric itself."""
    return "points" if metric.is_share else named(metric)


def written(metric: MainMetric, value: float) -> str:
    """Writes a value: ``94.7 %``, or ``12.31`` of a perplexity."""
    return number(scale(metric) * value, decimals(metric)) + ("\u00a0%" if metric.is_share else "")


def written_change(metric: MainMetric, change: float) -> str:
    """Writes a change: ``-1.3 points``, or ``0.42 of perplexity``."""
    unit = "points" if metric.is_share else f"of {metric.title}"
    return f"{number(scale(metric) * change, decimals(metric))} {unit}"


def tolerance_words(criteria: Iterable[str], metrics: Iterable[MainMetric], chosen: float | None) -> str:
    """Says what was allowed, by the criteria that were applied: see :func:`lnsub.analysis.criteria.tolerance`.

    Args:
        criteria: the column ``criterion`` of what is shown.
        metrics: the metrics that are shown.
        chosen: what a reader chose.
    """
    if chosen is not None:
        kinds = {metric.is_share: metric.title for metric in metrics}
        words = [f"{100 * chosen:g} points"] if True in kinds else []
        words += [f"{100 * chosen:g}\u00a0% of {kinds[False]}"] if False in kinds else []
        return f"{listed(words)}, as chosen"
    words = []
    for criterion in sorted(set(criteria), key=lambda name: (name == NONE, name == BINOMIAL, name)):
        if criterion == BINOMIAL:
            words.append("one binomial standard error √(p (1 - p) / n) of a share p of n examples (one seed)")
        elif criterion == NONE:
            words.append("nothing where a metric is no share of the examples (one seed)")
        else:
            words.append(f"one standard {criterion}")
    return listed(words)
