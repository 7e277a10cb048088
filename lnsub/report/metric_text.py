"""How figures write the values of a main metric: shares in percent, and which way is better."""

from collections.abc import Iterable

from lnsub.analysis.criteria import AT_CHANCE, BINOMIAL, MARGIN, NONE, NOTHING, PAIRED, RELATIVE_MARGIN
from lnsub.analysis.main_metric import MainMetric
from lnsub.charts.text import number
from lnsub.report.figure import listed

_ONE_RUN = {PAIRED, BINOMIAL, NOTHING}


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
    """Says what was allowed, by the criteria that were applied: see :mod:`lnsub.analysis.criteria`.

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
    kinds = {metric.is_share: metric.title for metric in metrics}
    words = []
    for criterion in sorted(set(criteria) - {NONE, AT_CHANCE}, key=lambda name: (name in _ONE_RUN, name)):
        if criterion == PAIRED:
            margins = [f"{100 * MARGIN:g} point{'' if MARGIN == 0.01 else 's'}"] if True in kinds else []
            margins += [f"{100 * RELATIVE_MARGIN:g}\u00a0% of {kinds[False]}"] if False in kinds else []
            words.append(
                f"{listed(margins)} with 95\u00a0% confidence, by a paired bootstrap over the examples (one seed)"
            )
        elif criterion == BINOMIAL:
            words.append("one binomial standard error √(p (1 - p) / n) of a share p of n examples (as published)")
        elif criterion == NOTHING:
            words.append("nothing where a metric is no share of the examples (as published)")
        else:
            words.append(f"one standard {criterion}")
    return listed(words)


def unjudged_words(criteria: Iterable[str]) -> str:
    """Says why some of what is shown matches nothing, or is not judged; empty where all is judged."""
    found, words = set(criteria), ""
    if AT_CHANCE in found:
        words += " Nothing matches a reference that is not above chance with 95\u00a0% confidence."
    if NONE in found:
        words += (
            " Where there is one seed, and what each example added to both metrics was not kept, there is no verdict."
        )
    return words
