"""The CSV logger of a run. A resumed run appends to its file; Lightning's logger starts a new one each time."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lnsub.common.files import append_lines, replacing
from lnsub.runs.folder import RunFolder

_FLUSH_EVERY = 100  # steps

Row = dict[str, Any]


class RunCSVLogger(Logger):
    """Writes ``metrics.csv`` in a run's folder: one row per call, one column per name, in name order.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.path = folder.path / "metrics.csv"
        self._columns, there = self._read()
        self._rows = len(there)
        self._new: list[Row] = []

    @property
    def name(self) -> str:
        """Empty: the file is in the run's folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty, too."""
        return ""

    @property
    def rows(self) -> int:
        """The number of rows in the file."""
        return self._rows

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Does nothing: ``config.yaml`` has the hyper-parameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a row; it is written by :meth:`save`, and every 100 steps."""
        at = self._rows + len(self._new) if step is None else step
        plain = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._new.append({**plain, "step": at})
        if at % _FLUSH_EVERY == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Appends the logged rows to the file; a new column rewrites it."""
        if not self._new:
            return
        columns = sorted({*self._columns, *(name for row in self._new for name in row)})
        if columns != self._columns or not self.path.exists():
            self._columns = columns
            self._write(self._read()[1])
        append_lines(self.path, self._as_csv(self._new), sync=False)
        self._rows += len(self._new)
        self._new = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Saves the remaining rows when a fit ends."""
        self.save()

    @rank_zero_only
    def keep_rows(self, rows: int) -> None:
        """Truncates the file to its first ``rows`` rows; an interrupted process wrote the rest."""
        if self._rows > rows:
            self._write(self._read()[1][:rows])

    def _read(self) -> tuple[list[str], list[Row]]:
        """The columns and rows in the file."""
        if not self.path.exists():
            return [], []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
            return list(reader.fieldnames or ()), rows

    def _write(self, rows: Sequence[Row]) -> None:
        """Rewrites the file."""
        with replacing(self.path) as file:
            file.write(self._as_csv([dict(zip(self._columns, self._columns, strict=True)), *rows]))
        self._rows = len(rows)

    def _as_csv(self, rows: Sequence[Row]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, extrasaction="ignore").writerows(rows)
        return text.getvalue().encode()
