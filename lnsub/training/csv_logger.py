"""The CSV logger of a run. A resumed run appends to its file; Lightning's logger starts a new one each time."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.files import append_lines, check_regular, replacing
from lnsub.runs.folder import RunFolder

Row = dict[str, Any]


class RunCSVLogger(Logger):
    """Writes ``metrics.csv`` in a run's folder: one row per call, one column per name, in name order.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder.path
        self.path = self._folder / "metrics.csv"
        self._there: tuple[list[str], int] | None = None  # columns and rows of the file, once it was read
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
    def save_dir(self) -> str:
        """The run's folder, where profilers write too."""
        return str(self._folder)

    @property
    def rows(self) -> int:
        """Rows that are in the file."""
        return self._known[1]

    @property
    def _known(self) -> tuple[list[str], int]:
        """Columns and rows of the file: read on first use, when no other process uses the folder any more."""
        if self._there is None:
            columns, rows = self._read()
            self._there = columns, len(rows)
        return self._there

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Does nothing: ``config.yaml`` has the hyper-parameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a row; it is in the file after :meth:`save`."""
        at = self.rows + len(self._new) if step is None else step
        plain = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._new.append({**plain, "step": at})

    @rank_zero_only
    def save(self) -> None:
        """Appends the logged rows to the file; a new column rewrites it."""
        if not self._new:
            return
        before = self._known[0]
        columns = sorted({*before, *(name for row in self._new for name in row)})
        if columns != before or not self.path.exists():
            self._write(columns, self._read()[1])
        append_lines(self.path, _as_csv(columns, self._new), sync=False)
        self._there = columns, self.rows + len(self._new)
        self._new = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Saves the remaining rows when a fit ends."""
        self.save()

    @rank_zero_only
    def keep_rows(self, rows: int) -> None:
        """Removes what was logged after the first ``rows`` rows, by a process that was interrupted."""
        if self.rows > rows:
            self._write(self._known[0], self._read()[1][:rows])

    def _read(self) -> tuple[list[str], list[Row]]:
        """The columns and rows in the file; raises UserError where it is not what :meth:`save` writes."""
        check_regular(self.path)
        if not self.path.exists():
            return [], []
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows: list[Row] = list(reader)
                return list(reader.fieldnames or ()), rows
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{self.path} is not a table that can be continued ({error}): move it away.") from error

    def _write(self, columns: list[str], rows: Sequence[Row]) -> None:
        """Writes the file anew."""
        with replacing(self.path) as file:
            file.write(_as_csv(columns, [dict(zip(columns, columns, strict=True)), *rows]))
        self._there = columns, len(rows)


def _as_csv(columns: list[str], rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns, extrasaction="ignore").writerows(rows)
    return text.getvalue().encode()
