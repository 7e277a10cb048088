"""Mixtures of languages, such as ``en+fa+fr+zh``: how many rows each part gives to the train split.

Foroutan et al. (2022, table 1) find one ticket on four languages at once, a quarter of the examples from each.
"""

from collections.abc import Sequence

import numpy as np

from lnsub.common.errors import UserError

_ROUNDED = 0.011
"""How far shares may add up to something else than 1: a third is written 0.33."""


def parts_of(language: str) -> tuple[str, ...]:
    """Returns the languages of a mixture in its order; none for a single language.

    Args:
        language: a language's code, or those of a mixture joined by ``+``.

    Raises:
        UserError: a language is named twice.
    """
    parts = tuple(language.split("+"))
    if len(parts) == 1:
        return ()
    if twice := next((part for part in parts if parts.count(part) > 1), None):
        raise UserError(f"The mixture '{language}' names {twice} twice: give it a larger share (`shares`) instead.")
    return parts


def shares_of(language: str, shares: Sequence[float] | None) -> tuple[float, ...]:
    """Returns the share of each part of a mixture; they add up to 1.

    Args:
        language: see :func:`parts_of`.
        shares: one number above 0 for each part, in the mixture's order; None: equal shares.

    Raises:
        UserError: there are not as many shares as parts, or they do not add up to 1.
    """
    parts = parts_of(language)
    if shares is None:
        return (1 / len(parts),) * len(parts) if parts else ()
    if not parts:
        raise UserError(f"shares are for a mixture of languages such as en+fa, but the language is '{language}'.")
    if len(shares) != len(parts):
        raise UserError(
            f"'{language}' has {len(parts)} languages, but the number of shares is {len(shares)}: give one to each."
        )
    total = sum(shares)
    if abs(total - 1) > _ROUNDED:
        raise UserError(f"The shares of '{language}' add up to {total:g}: they must add up to 1.")
    return tuple(share / total for share in shares)


def apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Divides a number of rows by shares: whole numbers that add up to it, by the largest remainder.

    Args:
        total: the rows.
        shares: they add up to 1; of equal remainders the earlier comes first.
    """
    # Rounded, so that a tenth of ten is one and not a little less.
    exact = np.round(total * np.asarray(shares), 9)
    counts = np.floor(exact).astype(np.int64)
    first = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[first] += 1
    return counts.tolist()


def balanced(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Returns how many rows of each part make up the largest mixture that holds the shares.

    Args:
        sizes: the rows that each part has.
        shares: they add up to 1.
    """
    if (counts := apportion(sum(sizes), shares)) == list(sizes):
        return counts
    return apportion(int(min(np.round(np.asarray(sizes) / np.asarray(shares), 9))), shares)
