"""Numbers as text, and how wide text is."""

import unicodedata
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite


def number(value: float, decimals: int) -> str:
    """Writes a number with a true minus sign, and no sign before a zero.

    Halves are rounded away from zero, as in charts, so that a table says what its chart does.
    """
    written = f"{Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) if isfinite(value) else value:f}"
    return written.replace("-", "\u2212") if float(written) else written.removeprefix("-")


def width_of(content: str, size: float = 12) -> float:
    """Estimates the width of a line of text in pixels, erring on the wide side.

    Args:
        content: the text.
        size: the font's size in pixels.
    """
    total = 0.0
    for char in content:
        if unicodedata.category(char) in {"Cf", "Mn", "Me"}:
            continue
        if unicodedata.east_asian_width(char) in {"W", "F"}:
            total += 1.05
        else:
            total += 0.34 if char in " .,:;'|!iljtfI·" else 0.9 if char in "mwMW%@ШЩЖМшщжмю" else 0.62
    return total * size
