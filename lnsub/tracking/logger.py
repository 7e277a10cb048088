"""The W&B logger of a run: one W&B run for each folder, however often it is interrupted, and never a reason to stop."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from typing_extensions import override

from lnsub.common.signals import EXIT_STATUS
from lnsub.runs.folder import RunFolder
from lnsub.tracking.client import run_id, start, user_message, wanted_mode
from lnsub.training.config import WandbSettings

log = logging.getLogger(__name__)

GLOBAL_STEP = "trainer/global_step"
"""Lightning's key for the trainer's step."""

SPARSITY, ROUND_STEP = "imp/sparsity", "imp/step"
"""The axes of a round's metrics, and of its training curves."""

FINISH_S = 60.0
"""Seconds that the end of a run, or its preemption, waits for uploads; the rest is on the disk."""


@dataclass(frozen=True)
class RunCard:
    """What a run is, for people and for the filters of a dashboard.

    Attributes:
        name: its name.
        job_type: what it does: ``imp``, ``dense``, ``transfer``, ``zero_shot``.
        group: its group unless the settings name one.
        tags: its tags, in addition to those of the settings.
        facts: shown at the top of its configuration: task, language, seed, ...
    """

    name: str
    job_type: str
    group: str
    tags: tuple[str, ...]
    facts: Mapping[str, Any]


class RunWandbLogger(WandbLogger):
    """Lightning's logger, except that it survives W&B's failures and draws each metric against one axis.

    The W&B run is started on first use, under the id that the run's folder keeps. A sort of thing (metrics, artifacts,
    ...) that W&B fails at is reported once and then left out.

    Args:
        folder: the run's folder.
        options: of ``wandb.init``, without the run's id and the mode.
    """

    def __init__(self, folder: RunFolder, options: dict[str, Any]) -> None:
        super().__init__(project=options["project"], save_dir=folder.path)
        self.folder = folder
        self._options = options
        self._run: Any = None
        self._round: tuple[float, int] | None = None
        self._defined: set[str] = set()
        self._failed: set[str] = set()

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> Any:
        """The W&B run; started, or resumed, on first use."""
        if self._run is None:
            self._run = start({**self._options, "id": run_id(self.folder)})
        return self._run

    @rank_zero_only
    def finish(self, *, failed: bool = False, preempted: bool = False) -> None:
        """Ends the W&B run, if it was started; waits at most :data:`FINISH_S` for its uploads.

        Args:
            failed: an error ended the run.
            preempted: a signal ended the run, which is to be resumed.
        """
        if self._run is None:
            return
        if preempted:
            self._attempt("preemption", self._run.mark_preempting)
        self._attempt("end", lambda: self._run.finish(exit_code=EXIT_STATUS if preempted else int(failed)))
        self._run = None

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        """Does something with W&B, unless the same sort of thing has failed before."""
        if what in self._failed:
            return
        try:
            action()
        except Exception as error:  # for example, its service was killed; nothing of it may end a training run
            self._failed.add(what)
            log.warning(f"W&B failed at logging this run's {what}; the run continues without ({user_message(error)}).")

    # Metrics --------------------------------------------------------------------------------------------------------

    def begin_round(self, sparsity: float, first_step: int) -> None:
        """From now on, training curves are logged under the round's sparsity too, from its own first step on."""
        self._round = (sparsity, first_step)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs one row."""
        row = {**metrics, **self._curves(metrics, step or 0)}
        self._attempt("metrics", lambda: self._log(row, step or 0))

    def _curves(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        curves = {key: value for key, value in metrics.items() if key == "train_loss" or key.startswith("val_")}
        if self._round is None or not curves:
            return {}
        sparsity, first_step = self._round
        return {ROUND_STEP: step - first_step, **{f"curves/s{sparsity:.2f}_{k}": v for k, v in curves.items()}}

    def _log(self, row: Mapping[str, float], step: int) -> None:
        # By exact names: where a name fits several patterns, W&B takes any of them.
        for key in sorted(row.keys() - self._defined):
            self.experiment.define_metric(key, step_metric=axis_of(key))
        self._defined |= row.keys()
        super().log_metrics(row, step)

    # Artifacts ------------------------------------------------------------------------------------------------------

    @rank_zero_only
    def log_output(self, make: Callable[[], Any]) -> None:
        """Logs an artifact that came out of this run.

        Args:
            make: makes the artifact.
        """
        self._attempt("artifacts", lambda: self.experiment.log_artifact(make()))

    @rank_zero_only
    def log_input(self, make: Callable[[], Any]) -> None:
        """Names an artifact that this run uses in its configuration and, online, in its lineage.

        Where W&B has the same content under the name, it is that version; otherwise it is uploaded. W&B's client
        cannot declare an input offline.

        Args:
            make: makes the artifact.
        """
        self._attempt("artifacts", lambda: self._use(make()))

    def _use(self, artifact: Any) -> None:
        run = self.experiment
        run.config.update({f"{artifact.type.replace('-', '_')}_artifact": artifact.name}, allow_val_change=True)
        if not (run.offline or run.disabled):
            run.use_artifact(artifact)


def axis_of(key: str) -> str | None:
    """What a metric is drawn against: exactly one axis for each name; None for an axis itself."""
    if key in {SPARSITY, ROUND_STEP}:
        return None
    if key.startswith("imp/"):
        return SPARSITY
    return ROUND_STEP if key.startswith("curves/") else GLOBAL_STEP


def wandb_logger(card: RunCard, settings: WandbSettings, folder: RunFolder, config: dict[str, Any]) -> RunWandbLogger:
    """Makes the W&B logger of a run.

    Args:
        card: what the run is.
        settings: project, entity, group and tags.
        folder: the run's folder.
        config: the resolved configuration, shown with the run.

    Raises:
        UserError: ``WANDB_MODE`` is none that W&B has.
    """
    wanted_mode()  # refused here, before anything is computed
    return RunWandbLogger(
        folder,
        {
            "project": settings.project,
            "entity": settings.entity,
            "group": settings.group or card.group,
            "job_type": card.job_type,
            "tags": list(dict.fromkeys((*card.tags, *settings.tags))),
            "name": card.name,
            "dir": folder.path,
            "config": {**card.facts, **config},
            "settings": {} if "WANDB_FINISH_TIMEOUT" in os.environ else {"finish_timeout": FINISH_S},
        },
    )
