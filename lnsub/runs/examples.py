"""What a model got right of each example, kept beside a run's records so that two models can be compared in pairs.

::

    examples/imp-round3-fr-validation.npz    one array per column, one entry per example

``index`` is the example's row in the split, or the block's in running text; the other columns are what the task counts,
such as ``correct, pairs``, ``hits, predicted, gold`` or ``correct, nats, tokens``. The main metric is a function of
their sums. No run needs the file: it only adds to the records.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def file_name(record: Record) -> str:
    """Names the file of a record's evaluation: ``imp-round3-fr-validation.npz``, ``dense-fr-test.npz``."""
    number = [] if record.round is None else [f"round{record.round}"]
    return "-".join([record.kind, *number, record.target, record.split]) + ".npz"
