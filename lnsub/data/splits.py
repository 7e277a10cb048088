"""One split of local data: the files that it consists of, what identifies their content, and their rows."""

import hashlib
import json
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import table_cast

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.data.formats import check_columns, read_file, reason, suffix_of

_NONE = "none"
"""The fingerprint of rows that nothing is cached for under it; datasets would hash all values for one."""


class LocalSplit(ABC):
    """A split that is on this machine."""

    @property
    @abstractmethod
    def files(self) -> Sequence[Path]:
        """The files, in order; all that the rows depend on."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Names the split in messages."""

    @abstractmethod
    def read(self, columns: Sequence[str]) -> datasets.Dataset:
        """Reads columns.

        Raises:
            UserError: a file cannot be read, or lacks a column.
        """

    def settings(self) -> str:
        """Returns what the rows depend on beside the files' content, as text; none for most."""
        return ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, the same for a copy elsewhere and at another date."""
        digests = [_sha256(file) for file in self.files]
        if len(digests) == 1 and not self.settings():
            return digests[0]
        return hashlib.sha256("\n".join([*digests, self.settings()]).encode()).hexdigest()


@dataclass(frozen=True)
class SplitFiles(LocalSplit):
    """Rows of files that are read one after the other.

    Args:
        paths: the files, in order.
        separator: what separates the columns of ``.csv`` files; None takes the comma.
        features: types that the data set's description gives to some columns; those of classes are heeded.
    """

    paths: tuple[Path, ...]
    separator: str | None = None
    features: datasets.Features | None = None

    @property
    def files(self) -> Sequence[Path]:
        """The files, in order."""
        return self.paths

    @property
    def where(self) -> str:
        """Names the file, or the first and the last."""
        return f"'{self.paths[0]}'" + (f" to '{self.paths[-1].name}'" if len(self.paths) > 1 else "")

    def settings(self) -> str:
        """Returns the separator, where it is not the comma, and the classes that the description names."""
        tabs = any((suffix_of(path.name) or "").startswith(".tsv") for path in self.paths)
        separator = self.separator or ("\t" if tabs else None)
        classes = None if self.features is None else self.features.to_dict()
        return json.dumps([separator, classes], sort_keys=True) if separator or classes else ""

    def read(self, columns: Sequence[str]) -> datasets.Dataset:
        """Reads columns into memory."""
        pieces = []
        for path in self.paths:
            table = read_file(path, columns, self.separator)
            try:
                pieces.append(_described(datasets.Dataset(table, fingerprint=_NONE), self.features))
            except (pa.ArrowException, ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f"'{path}' cannot be read: {reason(error)}") from error
        if len(pieces) == 1:
            return pieces[0]
        try:
            if any(_classes(piece) != _classes(pieces[0]) for piece in pieces):
                raise ValueError("their classes have other names")
            whole = pa.concat_tables([piece.data.table for piece in pieces], promote_options="permissive")
            return datasets.Dataset(whole, fingerprint=_NONE)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UserError(f"The files {self.where} do not fit together: {reason(error)}.") from error


@dataclass(frozen=True)
class SavedSplit(LocalSplit):
    """Rows that ``datasets`` saved with ``save_to_disk``, memory-mapped from where they are.

    Args:
        folder: the split's folder, with ``state.json`` in it.
    """

    folder: Path

    @cached_property
    def files(self) -> Sequence[Path]:
        """What describes the rows, and the files of rows, in order."""
        state = self.folder / "state.json"
        try:
            listed = parse_json(read_text(state))["_data_files"]
            names = [plain_file_name(entry["filename"]) for entry in listed]
        except (OSError, UnreadableError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"'{state}' cannot be read: it does not list the files of a saved data set.") from error
        paths = [self.folder / name for name in ("dataset_info.json", "state.json", *names)]
        check_regular(paths)
        return paths

    @property
    def where(self) -> str:
        """Names the folder."""
        return f"'{self.folder}'"

    def read(self, columns: Sequence[str]) -> datasets.Dataset:
        """Reads columns; values are checked, as damaged Arrow files may otherwise crash the process."""
        check_regular(self.files)
        try:
            rows = datasets.load_from_disk(str(self.folder.absolute())).with_format(None)
        except Exception as error:  # whatever a damaged description makes datasets raise
            raise UserError(f"'{self.folder}' cannot be read: {reason(error)}") from error
        check_columns(self.where, columns, rows.column_names)
        rows = rows.select_columns(list(columns))
        try:
            rows.data.table.validate(full=True)
        except pa.ArrowException as error:
            raise UserError(f"'{self.folder}' cannot be read: {reason(error)}") from error
        return rows


def check_regular(paths: Sequence[Path]) -> None:
    """Refuses what is not there, a broken link, a folder, a FIFO or a device, with a :class:`UserError`.

    Opening a FIFO would wait for ever.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            broken = "it is a link to what is not there" if path.is_symlink() else error.strerror
            raise UserError(f"'{path}' cannot be read: {broken}.") from error
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a device, a FIFO or a socket"
            raise UserError(f"'{path}' cannot be read: it is {kind}, not a file.")


def plain_file_name(name: Any) -> str:
    """Returns ``name``, or raises a ValueError if it leads out of its folder."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is no file name")
    return name


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error


def _described(rows: datasets.Dataset, features: datasets.Features | None) -> datasets.Dataset:
    """Gives columns the classes that the description names, unless the file itself names some."""
    types = dict(rows.features)
    for column, feature in (features or {}).items():
        # Truth values become numbers in a cast; they stay what they are, which is no label.
        if column in types and _holds_classes(feature) and not _holds_classes(types[column], datasets.Value("bool")):
            types[column] = feature
    if types == dict(rows.features):
        return rows
    table = table_cast(rows.data.table, datasets.Features(types).arrow_schema)
    return datasets.Dataset(table, fingerprint=_NONE)


def _holds_classes(feature: Any, *others: Any) -> bool:
    """Whether a column, or each of its lists, has classes, or one of ``others``."""
    inner = getattr(feature, "feature", feature)
    return isinstance(inner, datasets.ClassLabel) or inner in others


def _classes(rows: datasets.Dataset) -> dict[str, Any]:
    return {column: feature for column, feature in rows.features.items() if _holds_classes(feature)}
