"""What a model got right of each example, kept beside a run's records so that two models can be compared in pairs.

::

    examples/imp-round3-fr-validation.npz    one array per column, one entry per example

``index`` is the example's row in the split, or the block's in running text; the other columns are what the task counts,
such as ``correct, pairs``, ``hits, predicted, gold`` or ``correct, nats, tokens``. The main metric is a function of
their sums. No run needs the file: it only adds to the records.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lnsub.common.files import replacing
from lnsub.runs.records import Record

FOLDER = "examples"
"""The files' folder in a run's."""
_INDEX = "index"


@dataclass(frozen=True, eq=False)
class Examples:
    """What was counted of each example of one evaluation.

    Attributes:
        index: the examples' numbers, int64 [examples], ascending.
        counts: what was counted, float64 [examples] by the column's name.
    """

    index: NDArray[np.int64]
    counts: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.index)

    def total(self, column: str) -> int:
        """The sum of a column of whole numbers."""
        return int(self.counts[column].sum())

    def save(self, path: Path) -> None:
        """Writes a file at once or not at all.

        Raises:
            UserError: it cannot be written.
        """
        with replacing(path) as file:
            columns: dict[str, Any] = {_INDEX: self.index, **self.counts}
            np.savez_compressed(file, **columns)


@lru_cache(maxsize=256)
def load(path: Path) -> Examples | None:
    """Reads a file; None where it cannot be read, as then two models cannot be compared but nothing else is lost."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        index = columns.pop(_INDEX)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None
    whole = index.ndim == 1 and index.dtype.kind == "i" and np.array_equal(index, np.unique(index))
    alike = all(column.shape == index.shape and column.dtype.kind == "f" for column in columns.values())
    finite = alike and all(np.isfinite(column).all() for column in columns.values())
    return Examples(index, columns) if whole and finite else None


def files_in(run: Path) -> frozenset[str]:
    """The names of the files of a run; none where there is no such folder."""
    try:
        return frozenset(path.name for path in (run / FOLDER).iterdir())
    except OSError:
        return frozenset()


def file_name(record: Record) -> str:
    """Names the file of a record's evaluation: ``imp-round3-fr-validation.npz``, ``dense-fr-test.npz``."""
    number = [] if record.round is None else [f"round{record.round}"]
    return "-".join([record.kind, *number, record.target, record.split]) + ".npz"
