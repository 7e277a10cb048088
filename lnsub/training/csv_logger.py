"""The CSV logger of a run, which goes on where the run was interrupted; W&B's is :mod:`lnsub.tracking.logger`."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lnsub.common.files import append_lines, replacing
from lnsub.runs.folder import RunFolder


class _AppendingWriter(ExperimentWriter):
    """Lightning's CSV writer, but it adds to a file that is there, and what it writes is whole or not there."""

    metrics: list[dict[str, Any]]
    """Rows that are not in the file yet."""
    rows = 0
    """Rows in the file."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys, *rows = list(csv.reader(file)) or [[]]
            self.rows = len(rows)

    def save(self) -> None:
        """Adds what was logged to the file; a new column means to write it anew."""
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        if self._record_new_keys() or not path.exists():
            self.keep(self.rows)
        append_lines(path, self._as_csv(self.metrics), sync=False)
        self.rows += len(self.metrics)
        self.metrics = []

    def keep(self, rows: int) -> None:
        """Takes off the file all but its first ``rows`` rows."""
        path, there = Path(self.metrics_file_path), []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                there = list(csv.DictReader(file))[:rows]
        with replacing(path) as whole:
            whole.write(self._as_csv([dict(zip(self.metrics_keys, self.metrics_keys, strict=True)), *there]))
        self.rows = len(there)

    def _as_csv(self, rows: Sequence[dict[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.metrics_keys, extrasaction="ignore").writerows(rows)
        return text.getvalue().encode()


class RunCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` into a run's folder and adds to it when the run is gone on with.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(save_dir=folder.path, name="", version="")

    _experiment: _AppendingWriter | None

    @property
    def rows(self) -> int:
        """Rows that are in the file."""
        return self.experiment.rows

    @rank_zero_only
    def keep_rows(self, rows: int) -> None:
        """Takes off the file what was logged after its first ``rows`` rows, by a process that was interrupted."""
        if self.rows > rows:
            self.experiment.keep(rows)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; made on first use."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        return self._experiment
