"""How figures write the values of a main metric: shares in percent, and which way is better."""

from collections.abc import Iterable

from lnsub.analysis.main_metric import MainMetric
from lnsub.report.drawing.axes import number


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


def tolerance(
    metric: MainMetric, reference: float, n: int, deviation: float = float("nan"), chosen: float | None = None
) -> float:
    """How far a value may fall short of a reference and still match it.

    Args:
        metric: the metric.
        reference: the value to match.
        n: examples that it was measured on.
        deviation: its standard deviation over seeds, NaN where there is one seed.
        chosen: what a reader chose: that much of a share, or that share of ``reference`` for any other metric.

    Returns:
        ``chosen``; or else, for a share p, its standard error sqrt(p (1 - p) / n), and for any other metric its
        deviation over seeds, 0 where there is one seed. NaN where the reference is.
    """
    if reference != reference:
        return reference
    if chosen is not None:
        return chosen if metric.is_share else chosen * abs(reference)
    if metric.is_share:
        return (max(reference * (1 - reference), 0.0) / max(n, 1)) ** 0.5
    return deviation if deviation == deviation else 0.0


def tolerance_words(metrics: Iterable[MainMetric], chosen: float | None) -> str:
    """Says what :func:`tolerance` allows, for the kinds of metrics that there are."""
    kinds = {metric.is_share: metric.title for metric in metrics}
    words = []
    if True in kinds:
        share = "one standard error √(p (1 - p) / n) of a share p of n examples"
        words.append(share if chosen is None else f"{100 * chosen:g} points")
    if False in kinds:
        other = f"one standard deviation of {kinds[False]} over seeds (0 for one seed)"
        words.append(other if chosen is None else f"{100 * chosen:g}\u00a0% of {kinds[False]}")
    return " and ".join(words)
