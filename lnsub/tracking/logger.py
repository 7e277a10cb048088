"""The W&B logger of a run: one run for one folder, however often it is interrupted, and never a reason to stop."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from typing_extensions import override

from lnsub.runs.folder import RunFolder
from lnsub.tracking.history import GLOBAL_STEP, Past, Row, drop_empty, past, segments, values
from lnsub.tracking.settings import Mode, RunCard, WandbSettings, first_line, mode, run_id

log = logging.getLogger(__name__)

SPARSITY, ROUND_STEP = "imp/sparsity", "imp/step"
"""The axes of a round's metrics, and of its training curves."""

REMEMBERED_S = 60.0
"""Seconds for which a row is kept to be sent again; the client writes it to the disk within :data:`FLUSH_S`."""

REMEMBERED_ROWS = 10_000
"""The most rows that are kept: once W&B has failed, they are kept until the run is gone on with."""

FLUSH_S = 2.0
"""Seconds after which the client writes rows to the disk. Its own default, 15, is what a kill may cost."""

FINISH_S = 60.0
"""Seconds that the end of a run, or its preemption, waits for uploads; what is left is on the disk."""


class RunWandbLogger(WandbLogger):
    """Logs a run's rows, once each.

    A run that goes on logs some rows again, as it repeats the steps since its last checkpoint: those that W&B has are
    left out. Rows that a crash kept from the disk or the server are sent again, from the checkpoint and the disk.
    Whatever goes wrong at W&B is said once, and the run goes on without it.

    Args:
        card: what the run is.
        settings: where it is logged.
        folder: the run's folder; it keeps the run's id in ``wandb/run-id``.
        config: the resolved configuration, shown with the run.
        mode: ``online``, ``offline`` or ``disabled``.
    """

    def __init__(
        self, card: RunCard, settings: WandbSettings, folder: RunFolder, config: dict[str, Any], mode: Mode
    ) -> None:
        options: dict[str, Any] = {"x_transaction_log_flush_interval": FLUSH_S}
        if "WANDB_FINISH_TIMEOUT" not in os.environ:
            options["finish_timeout"] = FINISH_S
        super().__init__(
            project=settings.project,
            entity=settings.entity,
            group=settings.group or card.group,
            job_type=card.job_type,
            tags=list(dict.fromkeys((*card.tags, *settings.tags))),
            name=card.name,
            id=run_id(folder),
            save_dir=folder.path,
            # Not Lightning's `offline`, which sets an environment variable that a wandb already set up does not read.
            mode=mode,
            config={**card.facts, **config},
            settings=options,
            reinit="finish_previous",
        )
        del self._wandb_init["anonymous"]  # which W&B warns of
        self.folder = folder
        self._experiment: Any = None
        self._past = Past()
        self._recent: deque[tuple[float, Row]] = deque(maxlen=REMEMBERED_ROWS)
        self._round: tuple[float, int] | None = None
        self._defined: set[str] = set()
        self._failed: set[str] = set()

    # The run --------------------------------------------------------------------------------------------------------

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> Any:
        """The W&B run; begun, or gone on with, on first use."""
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    def _begin(self) -> Any:
        import wandb

        drop_empty(self.folder.path, self._wandb_init["id"])
        found = segments(self.folder.path, self._wandb_init["id"])
        try:
            run = wandb.init(**self._wandb_init)
        except Exception as error:  # a broken login, a server that is down, a full disk, ...
            log.warning(f"W&B cannot be reached, so this run is logged offline ({first_line(error)}).")
            try:
                wandb.teardown()  # its service still holds the run's id
                run = wandb.init(**{**self._wandb_init, "mode": "offline"})
            except Exception as again:
                log.warning(f"W&B does not work offline either, so it is left out ({first_line(again)}).")
                run = wandb.init(mode="disabled")
        online = not run.settings._offline and not run.disabled
        self._past = past(found, run.starting_step if online else None)
        return run

    def finish(self, *, failed: bool = False) -> None:
        """Ends the W&B run, where there is one; waits for its uploads for a while."""
        if self._experiment is not None and rank_zero_only.rank == 0:
            run = self._experiment
            self._attempt("end", lambda: run.finish(exit_code=int(failed)))
            self._experiment = None

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        """Does something with W&B; after a failure of one sort the sort is left out."""
        if what in self._failed:
            return
        try:
            action()
        except Exception as error:  # its service was killed, say; nothing of it may end a training run
            self._failed.add(what)
            log.warning(f"W&B failed at logging this run's {what}; the run goes on without ({first_line(error)}).")

    # Rows -----------------------------------------------------------------------------------------------------------

    def begin_round(self, sparsity: float, first_step: int) -> None:
        """From now on, training curves are logged under the round's sparsity too, from its own first step on."""
        self._round = (sparsity, first_step)

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs one row."""
        row = {**metrics, **self._curves(metrics, step or 0), GLOBAL_STEP: step or 0}
        now = time.monotonic()
        self._recent.append((now, row))
        while "metrics" not in self._failed and self._recent[0][0] < now - REMEMBERED_S:
            self._recent.popleft()
        self._send(row)

    def _curves(self, metrics: Mapping[str, float], step: int) -> Row:
        curves = {key: value for key, value in metrics.items() if key == "train_loss" or key.startswith("val_")}
        if self._round is None or not curves:
            return {}
        sparsity, first_step = self._round
        named = {f"curves/s{sparsity:.2f}_{key}": value for key, value in curves.items()}
        return {ROUND_STEP: step - first_step, **named}

    def _send(self, row: Row) -> None:
        self._attempt("metrics", lambda: self._send_new(row))

    def _send_new(self, row: Row) -> None:
        run, step = self.experiment, row[GLOBAL_STEP]
        new = {key: value for key, value in row.items() if key != GLOBAL_STEP and (step, key) not in self._past.known}
        if not new.keys() - {ROUND_STEP, "epoch"}:
            return
        # By exact names: of globs, W&B takes the first that fits, and knows no other order.
        for key in sorted(new.keys() - self._defined):
            run.define_metric(key, step_metric=axis_of(key))
        self._defined |= new.keys()
        run.log({**new, GLOBAL_STEP: step})

    def recent_rows(self) -> list[Row]:
        """The rows that a kill might still cost, for a checkpoint."""
        return [row for _, row in self._recent]

    def resend(self, rows: list[Row], until: int) -> None:
        """Logs what W&B lacks of the steps that will not be trained again.

        Args:
            rows: from the checkpoint.
            until: the trainer's step in the checkpoint.
        """
        self._attempt("metrics", lambda: self.experiment)
        for row in sorted((*self._past.lost, *rows), key=lambda row: row.get(GLOBAL_STEP, 0)):
            if row.get(GLOBAL_STEP, until + 1) <= until:
                self._send(row)
                self._past.known.update(values(row))

    def complete(self, rounds: list[Row]) -> None:
        """Logs the rounds that W&B lacks of a run that is done: a kill may have come just after the last was recorded.

        Args:
            rounds: all rounds' rows, without their steps.
        """
        found = segments(self.folder.path, self._wandb_init["id"])
        if found and found[-1].finished:  # all was sent
            return
        self._attempt("metrics", lambda: self.experiment)
        self.resend([], sys.maxsize)
        known = self._past.known
        there = {value for (_, key), value in known.items() if key == "imp/round"}
        step = max((step for step, _ in known), default=0)
        for row in rounds:
            if row["imp/round"] not in there:
                step += 1
                self._send({**row, GLOBAL_STEP: step})

    # Artifacts ------------------------------------------------------------------------------------------------------

    def log_made(self, make: Callable[[], Any]) -> None:
        """Logs an artifact that came out of this run.

        Args:
            make: makes the artifact.
        """
        self._attempt("artifacts", lambda: self.experiment.log_artifact(make()))

    def log_used(self, make: Callable[[], Any]) -> None:
        """Logs that this run uses an artifact; where W&B has the same content under the name, it is that version.

        The public ``use_artifact`` refuses to work offline, although the client's file and `wandb sync` know of it, and
        online it waits for the server. What it calls does neither.

        Args:
            make: makes the artifact.
        """
        self._attempt(
            "artifacts",
            lambda: self.experiment._log_artifact(make(), is_user_created=True, use_after_commit=True),
        )


def axis_of(key: str) -> str | None:
    """What a metric is drawn against: exactly one axis for each name; None for an axis itself."""
    if key in {SPARSITY, ROUND_STEP}:
        return None
    if key.startswith("imp/"):
        return SPARSITY
    return ROUND_STEP if key.startswith("curves/") else GLOBAL_STEP


def wandb_logger(card: RunCard, settings: WandbSettings, folder: RunFolder, config: dict[str, Any]) -> RunWandbLogger:
    """Makes the W&B logger of a run, which goes on under the same id when the run does.

    Args:
        card: what the run is.
        settings: project, entity, group and tags.
        folder: the run's folder.
        config: the resolved configuration, shown with the run.
    """
    return RunWandbLogger(card, settings, folder, config, mode())
