"""The loggers of a run: CSV always, W&B as configured; both go on where a run was interrupted."""

import csv
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lnsub.runs import RunFolder

if TYPE_CHECKING:
    from lnsub.training import WandbSettings

log = logging.getLogger(__name__)


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
