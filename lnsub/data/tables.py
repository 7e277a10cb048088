"""The splits of a language, or of a mixture of languages, as tables of tokenised rows: which rows each one holds."""

import copy
from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import datasets
import numpy as np

from lnsub.common.errors import UserError
from lnsub.data.drawing import Draw
from lnsub.data.label_shuffling import Unit, shuffle_labels
from lnsub.data.mixture import apportion, balanced, parts_of
from lnsub.data.tokenised import TokenisedRows


class SplitTables(TokenisedRows):
    """The tables of a language or a mixture; :class:`~lnsub.data.module.LanguageRows` has the settings and the batches.

    Attributes:
        shares: each language's share of a mixture.
        part_of: the mixture that this is a part of; None for data that stands alone.
        max_train_examples: the most rows of the train split.
        max_eval_examples: the most rows of other splits.
        train_sample: which of the disjoint samples of so many rows; None: the first.
        labels: whether training labels are shuffled.
        subset_seed: seed of the choice of training rows.
    """

    shares: tuple[float, ...]
    part_of: str | None
    max_train_examples: int | None
    max_eval_examples: int | None
    train_sample: int | None
    labels: Literal["shuffled"] | None
    subset_seed: int | None
    _tables: dict[tuple[str, int | None], datasets.Dataset]

    in_all: ClassVar[tuple[str, ...]] = ("max_train_examples",)
    """The limits that are divided among the parts of a mixture by their shares."""
    labels_of: ClassVar[Unit | None] = None
    """What a label belongs to; None for tasks that predict the text itself."""
    parallel: ClassVar[bool] = False
    """Whether rows of one number in two languages are translations of each other."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """The run's seed."""

    @cached_property
    def parts(self) -> "tuple[Self, ...]":
        """Of a mixture, the data of each of its languages on its own; empty for a single language.

        A part's validation and test splits are those of that language alone; of its train split the mixture uses what
        the shares say.
        """
        return tuple(self._part(language, place) for place, language in enumerate(parts_of(self.language)))

    def _part(self, language: str, place: int) -> Self:
        part = copy.copy(self)
        for made in ("source", "parts"):
            part.__dict__.pop(made, None)
        part.language, part.part_of, part.shares = language, self.language, ()
        part._tables = {}
        for limit in self.in_all:
            setattr(part, limit, self._portion(limit, place))
        return part

    def _portion(self, limit: str, place: int) -> int | None:
        """A part's portion of a limit that is for the mixture in all."""
        total = getattr(self, limit)
        if total is None:
            return None
        counts = apportion(total, self.shares)
        if not all(counts):
            raise UserError(
                f"{limit} is {total}, which leaves nothing of some language of '{self.language}': give more, or other"
                " shares."
            )
        return counts[place]

    @property
    def metric_suffix(self) -> str:
        """What the logged names of metrics end with: ``/en`` for that part of a mixture, nothing for other data."""
        return f"/{self.language}" if self.part_of else ""

    def check(self) -> None:
        """Raises a UserError if the data set lacks a language, without fetching anything but names."""
        for data in self.parts or (self,):
            data.open()

    def splits(self) -> list[str]:
        """Returns the splits there are; of a mixture, those that all of its languages have."""
        found = [data.source.splits() for data in self.parts or (self,)]
        return [split for split in found[0] if all(split in other for other in found)]

    def table(self, split: str) -> datasets.Dataset:
        """Returns a split's tokenised rows, memory-mapped from the cache, which is filled if it lacks them.

        Those of a mixture are its parts' rows, one language after the other. Its train split holds the shares: as many
        rows as that allows, drawn once for a seed. Its validation and test splits hold all rows of its parts.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Raises:
            UserError: there is no such language, split or column, or a row is not what the task needs.
        """
        # Only the rows of a mixture depend on the seed, which a trainer may have changed.
        key = (split, self.seed if self.parts and split == "train" else None)
        if key not in self._tables:
            if self.parts:
                self._tables[key] = self._mixed(split)
            elif split == "train":
                self._tables[key] = self._trained_on(Draw(self.subset_seed, sample=self.train_sample or 0))
            else:
                self._tables[key] = self.tokenised(split, self.max_eval_examples)
        return self._tables[key]

    def _trained_on(self, draw: Draw) -> datasets.Dataset:
        """The train split of a single language."""
        table = self.tokenised("train", self.max_train_examples, draw)
        if self.labels is None or self.labels_of is None:
            return table
        # Other languages draw others, or the labels of parallel rows would be the same again.
        return shuffle_labels(table, self.labels_of, Draw(self.subset_seed, self.language))

    def _mixed(self, split: str) -> datasets.Dataset:
        if split != "train":
            return datasets.concatenate_datasets([part.table(split) for part in self.parts])
        seed = self.seed if self.subset_seed is None else self.subset_seed
        draws = [Draw(seed, part.language, self.train_sample or 0) for part in self.parts]
        tables = [part._trained_on(draw) for part, draw in zip(self.parts, draws, strict=True)]
        counts = balanced([len(table) for table in tables], self.shares)
        if not all(counts):
            raise UserError(
                f"The languages of '{self.language}' have {', '.join(str(len(table)) for table in tables)} rows, too"
                f" few to mix them by the shares {', '.join(f'{share:.3g}' for share in self.shares)}."
            )
        chosen = [
            table.select(replace(draw, sample=0).rows(count, np.arange(len(table))), keep_in_memory=True)
            for table, count, draw in zip(tables, counts, draws, strict=True)
        ]
        return datasets.concatenate_datasets(chosen)

    @property
    def rows_used(self) -> str:
        """The training rows as a text that two runs have in common where they trained on the same."""
        limits = ((self.max_train_examples, "rows"), (self.most_rows("train"), "blocks"))
        count = next((f"{limit} {what}" for limit, what in limits if limit is not None), None)
        drawn_by = self.subset_seed if self.subset_seed is not None else (self.seed if self.parts else None)
        which = "all rows" if count is None else f"sample {self.train_sample or 0} of {count}"
        by = "" if drawn_by is None or (count is None and not self.parts) else f", drawn by {drawn_by}"
        return f"{'parallel rows' if self.parallel and not self.parts else self.language}, {which}{by}"
