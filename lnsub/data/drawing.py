"""Which rows of a split are used, where a setting limits how many: the same in every run, unless a seed says otherwise.

Disjoint samples of one language tell apart what two tickets share by their language from what they share by their rows.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsub.common.errors import UserError

SUBSET_SEED = 20220
"""Seed of every choice of rows that must not differ between runs or languages: subsets and held-out documents."""


@dataclass(frozen=True)
class Draw:
    """How rows are drawn: a random order, of which each sample takes its own stretch.

    Attributes:
        seed: of the order; None: the order is the same in every run.
        language: of a part of a mixture, so that parallel parts get other rows; None: parallel languages get the same.
        sample: which stretch, from 0.
    """

    seed: int | None = None
    language: str | None = None
    sample: int = 0

    def order(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns row numbers in the random order."""
        entropy: int | list[int] = SUBSET_SEED
        if self.language is not None:
            entropy = [SUBSET_SEED, self.seed or 0, zlib.crc32(self.language.encode())]
        elif self.seed is not None:
            entropy = [SUBSET_SEED, self.seed]
        return np.random.default_rng(entropy).permutation(numbers)

    def rows(self, limit: int | None, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draws rows and keeps their order.

        Args:
            limit: how many; None, or more than there are: all.
            numbers: the rows to draw from.

        Raises:
            UserError: there are too few for this sample.
        """
        if self.sample == 0 and (limit is None or limit >= len(numbers)):
            return numbers
        if limit is None:
            raise UserError(
                "train_sample chooses one of several disjoint samples: say how large one is (max_train_examples)."
            )
        self.check(limit, len(numbers) - self.sample * limit, "rows")
        return np.sort(self.order(numbers)[self.sample * limit : (self.sample + 1) * limit])

    def check(self, limit: int, left: int, what: str) -> None:
        """Refuses a sample that is not whole; of the first, all that there is will do.

        Args:
            limit: how large a sample is.
            left: how much earlier samples leave of the split.
            what: what samples are made of.

        Raises:
            UserError: there is too little.
        """
        if self.sample and left < limit:
            raise UserError(
                f"train_sample is {self.sample}, counting from 0, but the train split is too small for"
                f" {self.sample + 1} disjoint samples of {limit:,} {what}: make them smaller, or choose an earlier one."
            )

    def facts(self) -> dict[str, Any]:
        """Returns all of it that is not as usual, JSON-able."""
        found: dict[str, Any] = {"sample": self.sample} if self.sample else {}
        if self.language is not None:
            found["drawn"] = [self.seed, self.language]
        elif self.seed is not None:
            found["drawn"] = [self.seed]
        return found


FIRST = Draw()
"""The rows that every run uses, unless a setting says otherwise."""
