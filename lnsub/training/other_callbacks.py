"""Callbacks that users add: those with which an interrupted run is known to end the same, and those with which not."""

import logging
from collections.abc import Collection

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    ProgressBar,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)

from lnsub.common.errors import UserError

log = logging.getLogger(__name__)

HOLD: tuple[type[Callback], ...] = (ModelSummary, ProgressBar)
"""Lightning's that keep nothing and change nothing, so that a run with them resumes exactly, as with lnsub's own."""

REFUSED: dict[type[Callback], str] = {
    StochasticWeightAveraging: "it trains with averaged weights that no checkpoint holds",
    WeightAveraging: "it trains with averaged weights that no checkpoint holds",
    ModelPruning: "it prunes too, and rewinds nothing; lnsub.IMPCallback does both",
    BatchSizeFinder: "the batch size it finds depends on the machine; set data.init_args.batch_size",
    LearningRateFinder: "the rate it finds would differ from round to round; set model.learning_rate",
    Timer: "a fit that ends by the clock cannot be repeated; set trainer.max_epochs or max_steps",
}
"""Lightning's with which a run would end with other tickets, and why."""


def check_callbacks(trainer: Trainer, logged: Collection[str]) -> None:
    """Refuses callbacks that would change what a run finds, and warns of those that nobody has tried.

    Args:
        trainer: with its callbacks.
        logged: names of the metrics that are logged during a fit.

    Raises:
        UserError: a callback is one of :data:`REFUSED`, or monitors a metric that is never logged.
    """
    for callback in trainer.callbacks:
        name = type(callback).__name__
        for kind, why in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"trainer.callbacks has a {name}, which lnsub does not support: {why}.")
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in logged:
            raise UserError(
                f"trainer.callbacks has a {name} that monitors {monitor!r}, which is never logged: it may be "
                f"{', '.join(sorted(logged))}."
            )
        if not isinstance(callback, HOLD) and not type(callback).__module__.startswith("lnsub."):
            log.warning(
                f"trainer.callbacks has a {name}: whether a run with it resumes exactly is not known. To find out, "
                "compare one that was stopped on its way with one that was not."
            )


def drop_default_checkpoints(trainer: Trainer) -> None:
    """Removes the ``ModelCheckpoint`` that Lightning adds unless it is told not to: a run has its own checkpoints."""
    trainer.callbacks[:] = [callback for callback in trainer.callbacks if not _is_default(callback)]


def _is_default(callback: Callback) -> bool:
    return type(callback) is ModelCheckpoint and callback.monitor is None and callback.dirpath is None
