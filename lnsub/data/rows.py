"""The rows of one language of a data set, from a local folder or from the Hugging Face Hub.

A local data set is a folder ``<folder>/<language>/<split>.parquet`` (or ``.jsonl``, ``.csv``, ``.conllu``) with the
splits ``train``, ``validation`` and, if there is one, ``test``. A Hub data set has one configuration per language.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

from lnsub.common.errors import UserError
from lnsub.data.datasets_internals import fingerprint
from lnsub.data.formats import FORMATS, read_file
from lnsub.models.pretrained import looks_local

SPLITS = ("train", "validation", "test")

SUBSET_SEED = 20220
"""Seed of every choice of rows that must not differ between runs or languages: subsets and held-out documents."""


class RowSource(ABC):
    """The splits of one language of one data set.

    Args:
        dataset: folder or name on the Hub.
        language: the language's code.
        columns: the columns to read.
    """

    def __init__(self, dataset: str, language: str, columns: Sequence[str]) -> None:
        self.dataset = dataset
        self.language = language
        self.columns = list(columns)

    @abstractmethod
    def splits(self) -> list[str]:
        """Returns which of :data:`SPLITS` there are, in that order."""

    @abstractmethod
    def fingerprint(self, split: str) -> str:
        """Returns a string that changes when the split's content does."""

    @abstractmethod
    def where(self, split: str) -> str:
        """Names the split in messages."""

    @abstractmethod
    def _read(self, split: str) -> datasets.Dataset:
        """Reads a split that exists, with all its columns."""

    def read(self, split: str) -> datasets.Dataset:
        """Reads the columns asked for of a split that has at least one row.

        Raises:
            UserError: the split is missing, unreadable or empty, or lacks a column.
        """
        self.require(split)
        rows = self._read(split)
        missing = [column for column in self.columns if column not in rows.column_names]
        if missing:
            there = ", ".join(rows.column_names) or "none"
            raise UserError(f"{self.where(split)} has no column {', '.join(missing)}: it has {there}.")
        if len(rows) == 0:
            raise UserError(f"{self.where(split)} has no rows.")
        return rows.select_columns(self.columns, new_fingerprint=self.fingerprint(split)[:32])

    def require(self, split: str) -> None:
        """Raises a :class:`UserError` if there is no such split."""
        if split not in self.splits():
            raise UserError(
                f"The data set '{self.dataset}' has no {split} split for '{self.language}': it has"
                f" {', '.join(self.splits()) or 'no split at all'}."
            )


class LocalRows(RowSource):
    """Rows from files. They are read into memory, but only when the tokenised cache lacks them."""

    def __init__(self, dataset: str, language: str, columns: Sequence[str]) -> None:
        super().__init__(dataset, language, columns)
        root = Path(dataset).expanduser()
        if not root.is_dir():
            raise UserError(f"There is no data folder '{dataset}'.")
        self.folder = root / language
        if not self.folder.is_dir():
            languages = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
            raise UserError(
                f"The data folder '{dataset}' has no language '{language}': it has {', '.join(languages) or 'none'}."
            )
        self._files: dict[str, Path] = {}
        for split in SPLITS:
            found = [path for suffix in FORMATS if (path := self.folder / f"{split}{suffix}").is_file()]
            if len(found) > 1:
                names = " and ".join(path.name for path in found)
                raise UserError(f"The folder '{self.folder}' has both {names}: keep one of them.")
            if found:
                self._files[split] = found[0]
        self._digests: dict[str, str] = {}

    def splits(self) -> list[str]:
        """Returns the splits that have a file."""
        return list(self._files)

    def fingerprint(self, split: str) -> str:
        """Returns the SHA-256 of the file, which is the same for a copy elsewhere and at another date."""
        if split not in self._digests:
            with self._files[split].open("rb") as file:
                self._digests[split] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[split]

    def where(self, split: str) -> str:
        """Names the split's file."""
        return f"'{self._files[split]}'"

    def _read(self, split: str) -> datasets.Dataset:
        table = read_file(self._files[split], self.columns)
        return datasets.Dataset(table, fingerprint=self.fingerprint(split)[:32])


class HubRows(RowSource):
    """Rows from the Hub, downloaded once into the datasets cache and memory-mapped from there.

    Args:
        dataset: name on the Hub.
        language: the language's code.
        columns: the columns to read.
        prefix: what comes before the language in the name of its configuration.
        suffix: what comes after it.
    """

    def __init__(self, dataset: str, language: str, columns: Sequence[str], prefix: str = "", suffix: str = "") -> None:
        super().__init__(dataset, language, columns)
        self.prefix, self.suffix = prefix, suffix

    @cached_property
    def _splits(self) -> datasets.DatasetDict:
        try:
            loaded = datasets.load_dataset(self.dataset, f"{self.prefix}{self.language}{self.suffix}")
        except (ValueError, OSError, RuntimeError) as error:
            # datasets raises a ValueError for an unknown configuration; after other errors the Hub need not be asked.
            languages = self._languages() if isinstance(error, ValueError) else []
            if languages and self.language not in languages:
                raise UserError(
                    f"The data set '{self.dataset}' has no language '{self.language}': it has {', '.join(languages)}."
                ) from error
            raise UserError(
                f"'{self.dataset}' is neither a folder here nor a data set that could be fetched from the Hugging Face"
                f" Hub for '{self.language}': check the name and the network, or give a folder."
            ) from error
        if "dev" in loaded and "validation" not in loaded:  # Universal Dependencies names it so
            loaded["validation"] = loaded.pop("dev")
        return loaded

    def _languages(self) -> list[str]:
        try:
            names = datasets.get_dataset_config_names(self.dataset)
        except (ValueError, OSError, RuntimeError):
            return []
        named = re.compile(f"{re.escape(self.prefix)}(.+){re.escape(self.suffix)}")
        return sorted(found[1] for name in names if (found := named.fullmatch(name)))

    def splits(self) -> list[str]:
        """Returns the splits of the language's configuration."""
        return [split for split in SPLITS if split in self._splits]

    def fingerprint(self, split: str) -> str:
        """Returns the fingerprint that datasets gives the downloaded revision."""
        return fingerprint(self._splits[split])

    def where(self, split: str) -> str:
        """Names the data set, the language and the split."""
        return f"The {split} split of '{self.dataset}' ({self.language})"

    def _read(self, split: str) -> datasets.Dataset:
        return self._splits[split]


def open_rows(dataset: str, language: str, columns: Sequence[str], prefix: str = "", suffix: str = "") -> RowSource:
    """Finds the rows of a language; what exists as a folder, or is written like a path, is local.

    Args:
        dataset: folder or name on the Hub.
        language: the language's code: a sub-folder, or a configuration of the Hub's data set.
        columns: the columns to read.
        prefix: what comes before the language in the name of a Hub configuration.
        suffix: what comes after it.

    Raises:
        UserError: there is no such data set or language.
    """
    if looks_local(dataset):
        return LocalRows(dataset, language, columns)
    return HubRows(dataset, language, columns, prefix, suffix)


def at_most(limit: int | None, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draws ``limit`` of the row numbers, the same in every run, and keeps their order; None draws all."""
    if limit is None or limit >= len(numbers):
        return numbers
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(numbers)[:limit])
