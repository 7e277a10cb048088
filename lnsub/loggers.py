"""The CSV logger of a run, which goes on where the run was interrupted; W&B's is :mod:`lnsub.tracking.logger`."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lnsub.runs import RunFolder


class _AppendingWriter(ExperimentWriter):
    """Lightning's CSV writer, but it adds to a file that is there instead of deleting it."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])


class RunCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` into a run's folder and adds to it when the run is gone on with.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(save_dir=folder.path, name="", version="")

    _experiment: _AppendingWriter | None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; made on first use."""
        if self._experiment is None:
            Path(self.log_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        return self._experiment
