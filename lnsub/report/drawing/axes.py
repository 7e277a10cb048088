"""The frame of a plot: scales, round ticks, grid lines and labels that do not run into one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lnsub.report.drawing.svg import tag, text, width_of

WIDTH = 360.0
"""Pixels of a plot: what a phone of usual width shows without shrinking it."""

Tick = tuple[float, str]
"""A place on an axis and what is written there."""


@dataclass(frozen=True)
class Scale:
    """A straight line from values to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def number(value: float, decimals: int) -> str:
    """Writes a number with a true minus sign, and no sign before a zero."""
    written = f"{value:.{decimals}f}"
    return written.replace("-", "\u2212") if float(written) else written.removeprefix("-")


def round_ticks(low: float, high: float, about: int = 5) -> list[Tick]:
    """Finds round ticks that cover a range.

    Args:
        low: the lowest value.
        high: the highest; an empty range is widened.
        about: how many steps to aim for.

    Returns:
        Ticks at multiples of 1, 2 or 5 times a power of ten, the first at or below ``low``, the last at or above
        ``high``, written with as many decimals as the step needs.
    """
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        pad = max(abs(low), abs(high), 1.0) * 0.01
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [(k * step, number(k * step, decimals)) for k in range(first, last + 1)]


@dataclass(frozen=True)
class Plot:
    """A plot's inner rectangle with its two scales, and the markup of its frame."""

    x: Scale
    y: Scale
    width: float
    height: float
    markup: str


def plot(x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_label: str, y_label: str, height: float = 250) -> Plot:
    """Draws the frame of a plot.

    Args:
        x_ticks: along the bottom, from the left end of the scale to the right one; of labels that would touch, only
            every second, third, ... is written.
        y_ticks: along the left side; the lowest and highest are the scale's ends.
        x_label: below, in the middle.
        y_label: above the left side, upright.
        height: of the whole, in pixels.
    """
    left = 10 + max(width_of(label) for _, label in y_ticks)
    right, top, bottom = WIDTH - 14, 30.0, height - 42
    pad = min(16.0, (right - left) / 20)
    x = Scale(x_ticks[0][0], x_ticks[-1][0], left + pad, right - pad)
    y = Scale(y_ticks[0][0], y_ticks[-1][0], bottom, top)
    parts = [text(2, 10, y_label, class_="t name")]
    for value, label in y_ticks:
        parts.append(tag("line", x1=left, x2=right, y1=y(value), y2=y(value), class_="zero" if value == 0 else "grid"))
        parts.append(text(left - 6, y(value), label, anchor="end"))
    gap = min((x(b) - x(a) for (a, _), (b, _) in pairwise(x_ticks)), default=right)
    every = max(1, math.ceil((max(width_of(label) for _, label in x_ticks) + 6) / gap))
    for place, (value, label) in enumerate(x_ticks):
        parts.append(tag("line", x1=x(value), x2=x(value), y1=bottom, y2=bottom + 4, class_="axis"))
        if place % every == 0:
            parts.append(text(x(value), bottom + 13, label, anchor="middle"))
    parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(text((left + right) / 2, height - 9, x_label, anchor="middle", class_="t name"))
    return Plot(x, y, WIDTH, height, "".join(parts))
