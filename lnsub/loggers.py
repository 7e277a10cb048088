"""The loggers of a run: CSV always, W&B as configured; both go on where a run was interrupted."""

import csv
import io
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lnsub.durable import append_lines, replacing
from lnsub.runs import RunFolder

if TYPE_CHECKING:
    from lnsub.training import WandbSettings

log = logging.getLogger(__name__)


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


def wandb_logger(settings: "WandbSettings", folder: RunFolder, config: dict[str, Any]) -> WandbLogger:
    """Makes the W&B logger of a run, which goes on under the same id when the run does.

    ``WANDB_MODE`` is obeyed. Where it is not set and there is no API key, the run is offline, which is said once; it
    never asks.

    Args:
        settings: project, entity, group and tags.
        folder: the run's folder; it keeps the run's id in ``wandb/run-id``.
        config: the resolved configuration, shown with the run.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE")
    if not mode:
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        if mode == "offline":
            _say_offline()
    task, language, seed = folder.path.parts[-3:]
    return WandbLogger(
        project=settings.project,
        entity=settings.entity,
        group=settings.group or task,
        tags=[task, language, seed, *settings.tags],
        name=f"{task}/{language}/{seed}",
        id=_run_id(folder),
        save_dir=folder.path,
        # Not Lightning's `offline`, which sets an environment variable that a wandb already set up does not read.
        mode=mode,
        config=config,
    )


@rank_zero_only
def _say_offline() -> None:
    log.info("No W&B API key: logging offline; send it later with `wandb sync`, or set WANDB_API_KEY.")


def _run_id(folder: RunFolder) -> str:
    """The id under which this folder's run is known to W&B."""
    path = folder.path / "wandb" / "run-id"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    found = secrets.token_hex(4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found, encoding="utf-8")
    return found
