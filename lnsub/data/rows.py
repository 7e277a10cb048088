"""The rows of one language of a data set, from a local folder or from the Hugging Face Hub.

A local data set has a folder for each language (see :mod:`lnsub.data.layouts`) or is laid out as on the Hub (see
:mod:`lnsub.data.hub_folder`), with the splits ``train``, ``validation`` and, if there is one, ``test``. A Hub data set
has one configuration per language.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import datasets

from lnsub.common.errors import UserError
from lnsub.common.names import looks_local
from lnsub.data.datasets_internals import fingerprint
from lnsub.data.formats import check_columns, reason
from lnsub.data.hub_folder import configurations, splits_of
from lnsub.data.layouts import by_convention, names_looked_for, splits_in
from lnsub.data.splits import LocalSplit


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
        """Reads a split that exists, with the columns asked for at least."""

    def read(self, split: str) -> datasets.Dataset:
        """Reads the columns asked for of a split that has at least one row.

        Raises:
            UserError: the split is missing, unreadable or empty, or lacks a column.
        """
        self.require(split)
        rows = self._read(split)
        check_columns(self.where(split), self.columns, rows.column_names)
        if len(rows) == 0:
            raise UserError(f"{self.where(split)} has no rows.")
        return rows.select_columns(self.columns, new_fingerprint=self.fingerprint(split)[:32])

    def require(self, split: str) -> None:
        """Raises a :class:`UserError` if there is no such split."""
        if split not in self.splits():
            raise UserError(
                f"The data set '{self.dataset}' has no {split} split for '{self.language}': it has"
                f" {', '.join(self.splits()) or 'no split at all'}.{self._looked_for(split)}"
            )

    def _looked_for(self, split: str) -> str:
        """Says what a missing split would be called, as a sentence; none where that is clear."""
        return ""


class LocalRows(RowSource):
    """Rows from a folder, as it is now: no copy of them is kept but the tokenised cache.

    Args:
        dataset: the folder.
        language: the language's code: a sub-folder, or a configuration in the folder's README.md.
        columns: the columns to read.
        prefix: what may come before the language in the name of either.
        suffix: what may come after it.
    """

    def __init__(self, dataset: str, language: str, columns: Sequence[str], prefix: str = "", suffix: str = "") -> None:
        super().__init__(dataset, language, columns)
        self.root = Path(dataset).expanduser()
        if not self.root.is_dir():
            raise UserError(f"There is no data folder '{dataset}'.")
        names = list(dict.fromkeys([f"{prefix}{language}{suffix}", language]))
        listed = configurations(self.root)
        self.folder: Path | None = None
        self._found: dict[str, LocalSplit]
        if named := [name for name in names if name in listed]:
            self._found = splits_of(self.root, named[0], listed[named[0]])
        elif folders := [self.root / name for name in reversed(names) if (self.root / name).is_dir()]:
            self.folder = folders[0]
            self._found = splits_in(self.folder)
        else:
            there = {path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")}
            raise UserError(
                f"The data folder '{dataset}' has no language '{language}': it has"
                f" {', '.join(sorted(there | listed.keys())) or 'none'}. Looked for a folder, or a configuration in"
                f" README.md, named {' or '.join(names)}."
            )

    def splits(self) -> list[str]:
        """Returns the splits that have files."""
        return list(self._found)

    def fingerprint(self, split: str) -> str:
        """Returns the SHA-256 of the split's files, which is the same for a copy elsewhere and at another date."""
        return self._found[split].digest

    def where(self, split: str) -> str:
        """Names the split's file, its first and last file, or its folder."""
        return self._found[split].where

    def _read(self, split: str) -> datasets.Dataset:
        return self._found[split].read(self.columns)

    def _looked_for(self, split: str) -> str:
        if self.folder is None:
            return f" That is what '{self.root / 'README.md'}' says."
        return f" In '{self.folder}', looked for {names_looked_for(split)}."


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
        except datasets.exceptions.DatasetGenerationError as error:
            raise UserError(f"'{self.dataset}' ({self.language}) cannot be read: {reason(error)}") from error
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
        return datasets.DatasetDict(by_convention(loaded))

    def _languages(self) -> list[str]:
        try:
            names = datasets.get_dataset_config_names(self.dataset)
        except (ValueError, OSError, RuntimeError):
            return []
        named = re.compile(f"{re.escape(self.prefix)}(.+){re.escape(self.suffix)}")
        return sorted(found[1] for name in names if (found := named.fullmatch(name)))

    def splits(self) -> list[str]:
        """Returns the splits of the language's configuration."""
        return list(self._splits)

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
        language: the language's code: a sub-folder, or a configuration of a data set of the Hub.
        columns: the columns to read.
        prefix: what comes before the language in the name of a Hub configuration; a sub-folder may lack it.
        suffix: what comes after it.

    Raises:
        UserError: there is no such data set or language.
    """
    if looks_local(dataset):
        return LocalRows(dataset, language, columns, prefix, suffix)
    return HubRows(dataset, language, columns, prefix, suffix)
