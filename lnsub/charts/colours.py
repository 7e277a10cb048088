"""Colours that colour-blind readers can tell apart, for light and for dark pages.

Lines and points take Okabe and Ito's palette, each with a marker of its own. Heat maps take ramps that are straight
lines in OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab/), so that equal steps look equally large.
"""

import math

PALETTE: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe and Ito's colours in the order in which series take them; the last stands in for their yellow, which white
paper swallows. On dark pages black becomes white; see :data:`DARK_PALETTE`."""

DARK_PALETTE: tuple[str, ...] = ("#3D9BD9", "#F07C2C", "#1FC49A", "#E09BC4", "#F0B429", "#7CCBF5", "#FFFFFF", "#F0E442")
"""The same hues, lighter, and yellow itself."""

Lab = tuple[float, float, float]


def _polar(lightness: float, chroma: float, hue: float) -> Lab:
    return lightness, chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))


# Low and high end; the light page's low end is near its paper, the dark page's near its own.
_SEQUENTIAL = {
    "light": (_polar(0.965, 0.02, 220), _polar(0.40, 0.12, 255)),
    "dark": (_polar(0.29, 0.04, 255), _polar(0.88, 0.10, 195)),
}
# Below zero, zero, above zero.
_DIVERGING = {
    "light": (_polar(0.58, 0.15, 45), _polar(0.97, 0.0, 0), _polar(0.52, 0.12, 245)),
    "dark": (_polar(0.74, 0.15, 50), _polar(0.28, 0.0, 0), _polar(0.76, 0.11, 240)),
}


def sequential(share: float, page: str) -> str:
    """The colour of a value by where it lies between the lowest (0) and the highest (1).

    Args:
        share: where; clipped to its ends.
        page: ``light`` or ``dark``.

    Returns:
        ``#rrggbb``.
    """
    return _hex(_between(*_SEQUENTIAL[page], min(max(share, 0.0), 1.0)))


def diverging(share: float, page: str) -> str:
    """The colour of a signed value: -1 the most negative (orange), 0 neutral, 1 the most positive (blue).

    Args:
        share: where; clipped to its ends.
        page: ``light`` or ``dark``.

    Returns:
        ``#rrggbb``.
    """
    share = min(max(share, -1.0), 1.0)
    below, zero, above = _DIVERGING[page]
    return _hex(_between(zero, above if share > 0 else below, abs(share)))


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours (``#rrggbb``), from 1 to 21, as WCAG 2 defines it; text needs 4.5."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _between(a: Lab, b: Lab, share: float) -> Lab:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def _hex(lab: Lab) -> str:
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * min(max(_gamma(value), 0.0), 1.0)):02x}" for value in linear)


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
