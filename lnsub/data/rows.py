"""The rows of one language of a data set, from a local folder or from the Hugging Face Hub.

A local data set is a folder ``<folder>/<language>/<split>.parquet`` (or ``.jsonl``, ``.csv``, ``.conllu``) with the
splits ``train``, ``validation`` and, if there is one, ``test``. A Hub data set has one configuration per language.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from lnsub.common.errors import UserError
from lnsub.data.conllu_files import read_conllu
from lnsub.data.datasets_internals import fingerprint
from lnsub.models.pretrained import looks_local

SPLITS = ("train", "validation", "test")

SUBSET_SEED = 20220
"""Seed of every choice of rows that must not differ between runs or languages: subsets and held-out documents."""


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.parquet.read_table(path)


def _read_jsonl(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.json.read_json(path)


def _read_csv(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        # All text, or a premise "1984" would become a number and "null" no premise at all.
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
    )


def _read_conllu(path: Path, columns: Sequence[str]) -> pa.Table:
    return read_conllu(path)


_READERS = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".csv": _read_csv, ".conllu": _read_conllu}


class RowSource(ABC):
    """The splits of one language of one data set.

    Args:
        dataset: folder or name on the Hub.
        language: the language's code.
        columns: the columns that the task reads.
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
        """Reads a split: the task's columns, at least one row.

        Raises:
            UserError: the split is missing, unreadable or empty, or lacks a column.
        """
        self.require(split)
        rows = self._read(split)
        missing = [column for column in self.columns if column not in rows.column_names]
        if missing:
            raise UserError(
                f"{self.where(split)} has no column {_listed(missing)}: it has {_listed(rows.column_names) or 'none'}."
            )
        if len(rows) == 0:
            raise UserError(f"{self.where(split)} has no rows.")
        return rows.select_columns(self.columns, new_fingerprint=self.fingerprint(split)[:32])

    def require(self, split: str) -> None:
        """Raises a :class:`UserError` if there is no such split."""
        if split not in self.splits():
            raise UserError(
                f"The data set '{self.dataset}' has no {split} split for '{self.language}': it has"
                f" {_listed(self.splits()) or 'no split at all'}."
            )


class LocalRows(RowSource):
    """Rows from files. They are read into memory, but only when the tokenised cache does not have them yet."""

    def __init__(self, dataset: str, language: str, columns: Sequence[str]) -> None:
        super().__init__(dataset, language, columns)
        root = Path(dataset).expanduser()
        if not root.is_dir():
            raise UserError(f"There is no data folder '{dataset}'.")
        self.folder = root / language
        if not self.folder.is_dir():
            languages = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
            raise UserError(
                f"The data folder '{dataset}' has no language '{language}': it has {_listed(languages) or 'none'}."
            )
        self._files: dict[str, Path] = {}
        for split in SPLITS:
            found = [path for suffix in _READERS if (path := self.folder / f"{split}{suffix}").is_file()]
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
        """Returns the SHA-256 of the file, so that a copy elsewhere, or a newer date, changes nothing."""
        if split not in self._digests:
            with self._files[split].open("rb") as file:
                self._digests[split] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[split]

    def where(self, split: str) -> str:
        """Names the split's file."""
        return f"'{self._files[split]}'"

    def _read(self, split: str) -> datasets.Dataset:
        path = self._files[split]
        try:
            table = _READERS[path.suffix](path, self.columns) if path.stat().st_size else pa.table({})
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{self.where(split)} cannot be read: {str(error).splitlines()[0]}") from error
        return datasets.Dataset(table, fingerprint=self.fingerprint(split)[:32])


class HubRows(RowSource):
    """Rows from the Hub, downloaded once into the datasets cache and memory-mapped from there.

    Args:
        dataset: name on the Hub.
        language: the language's code.
        columns: the columns that the task reads.
        prefix: what comes before the language in the name of its configuration.
        suffix: what comes after it.
    """

    def __init__(self, dataset: str, language: str, columns: Sequence[str], prefix: str = "", suffix: str = "") -> None:
        super().__init__(dataset, language, columns)
        self.prefix, self.suffix = prefix, suffix
        self._loaded: datasets.DatasetDict | None = None

    @property
    def _splits(self) -> datasets.DatasetDict:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> datasets.DatasetDict:
        try:
            loaded = datasets.load_dataset(self.dataset, f"{self.prefix}{self.language}{self.suffix}")
        except (ValueError, OSError, RuntimeError) as error:
            # datasets raises a plain ValueError for an unknown configuration; after others the Hub need not be asked.
            languages = self._languages() if isinstance(error, ValueError) else []
            if languages and self.language not in languages:
                raise UserError(
                    f"The data set '{self.dataset}' has no language '{self.language}': it has {_listed(languages)}."
                ) from error
            raise UserError(
                f"'{self.dataset}' is neither a folder here nor a data set that could be fetched from the Hugging Face"
                f" Hub for '{self.language}': check the name and the network, or give a folder."
            ) from error
        if "dev" in loaded and "validation" not in loaded:  # as some name it, Universal Dependencies among them
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
        columns: the columns that the task reads.
        prefix: what comes before the language in the name of a Hub configuration.
        suffix: what comes after it.

    Raises:
        UserError: there is no such data set or language.
    """
    if looks_local(dataset):
        return LocalRows(dataset, language, columns)
    return HubRows(dataset, language, columns, prefix, suffix)


def at_most(limit: int | None, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns ``limit`` of the row numbers in their order, the same in every run; all where there are no more."""
    if limit is None or limit >= len(numbers):
        return numbers
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(numbers)[:limit])


@contextmanager
def quiet_bars(quiet: bool) -> Iterator[None]:
    """Hides the progress bars of datasets where ``quiet``, for work that is over in seconds."""
    hide = quiet and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
