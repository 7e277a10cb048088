"""Parallel sentences of two languages, whatever they were read from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lnsub.common.errors import UserError

PIVOT = "en"
"""The language that all others are paired with unless something else is said, and the name of its column."""

SUBSET_SEED = 20220
"""Seed of the choice of pairs, so that every ticket, layer and run is measured on the same ones."""


@dataclass(frozen=True)
class Pairs:
    """Sentences of a pivot language and of another; row i of one translates row i of the other.

    Attributes:
        language: the other language.
        first: the pivot's sentences.
        second: their translations.
        empty: pairs left out because a sentence is missing or blank.
        repeated: pairs left out because one of their sentences is in an earlier pair: it has two right answers.
        pivot: the pivot language, English for most collections.
    """

    language: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    empty: int = 0
    repeated: int = 0
    pivot: str = PIVOT

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.first)

    @property
    def name(self) -> str:
        """The other language, and the pivot where it is not English: ``fr``, ``de (with fr)``."""
        return self.language if self.pivot == PIVOT else f"{self.language} (with {self.pivot})"


def check_limit(max_pairs: int | None) -> None:
    """Refuses a limit of fewer than two pairs, which nothing can be measured on, with a :class:`UserError`."""
    if max_pairs is not None and max_pairs < 2:
        raise UserError(f"max_pairs is {max_pairs}: at least two pairs are needed.")


def parallel_rows(where: str, texts: pd.DataFrame, max_pairs: int | None) -> tuple[pd.DataFrame, int, int]:
    """Drops the rows that cannot be used, and draws some of the others.

    Args:
        where: what the rows were read from, for the error message.
        texts: one column of text a language; what is blank is missing.
        max_pairs: see :func:`lnsub.analysis.parallel.sources.read_pairs`.

    Returns:
        The rows kept, in order: those in which no column is blank or repeats an earlier row's; and how many were left
        out for either reason.

    Raises:
        UserError: fewer than two rows are left.
    """
    whole = texts[(texts != "").all(axis="columns")]
    repeats = pd.concat([whole[name].duplicated() for name in whole], axis="columns").any(axis="columns")
    kept = whole[~repeats]
    if len(kept) < 2:
        raise UserError(
            f"{where} has {len(kept) or 'no'} usable sentence pair{'' if len(kept) == 1 else 's'} in {len(texts)} rows"
            " (blank and repeated sentences are left out): at least two are needed."
        )
    empty, repeated = len(texts) - len(whole), len(whole) - len(kept)
    if max_pairs is not None and max_pairs < len(kept):
        kept = kept.iloc[np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(kept))[:max_pairs])]
    return kept, empty, repeated


def made_pairs(where: str, texts: pd.DataFrame, language: str, pivot: str, max_pairs: int | None) -> Pairs:
    """Makes pairs of two columns of text, the pivot's first; see :func:`parallel_rows`."""
    kept, empty, repeated = parallel_rows(where, texts, max_pairs)
    first, second = (tuple(kept.iloc[:, place]) for place in (0, 1))
    return Pairs(language, first, second, empty, repeated, pivot)


def sentences(where: str, column: pd.Series, name: str) -> pd.Series:
    """Takes white space from around sentences; a missing one is blank.

    Args:
        where: what the column was read from, for the error message.
        column: the sentences.
        name: the column's name, likewise.

    Raises:
        UserError: a value is not text.
    """
    filled = column.astype(object).where(column.notna(), "")
    odd = filled[~filled.map(lambda text: isinstance(text, str))]
    if len(odd):
        raise UserError(
            f"The sentence in row {odd.index[0] + 1}, column '{name}' of {where} is not text: {odd.iloc[0]!r}."
        )
    return filled.str.strip()


def check_distinct(pairs: Sequence[Pairs]) -> None:
    """Refuses two collections of one pair of languages, which no row could tell apart, with a :class:`UserError`."""
    seen = set()
    for one in pairs:
        if (one.pivot, one.language) in seen:
            raise UserError(f"There are two collections of pairs of {one.pivot} and {one.language}: give one.")
        seen.add((one.pivot, one.language))
