"""A whole run, which may have many fits: callbacks that hear of its end, and rows for its loggers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch import Callback, Trainer


def log_row(trainer: Trainer, row: Mapping[str, float], step: int | None = None) -> None:
    """Sends a row to all of a trainer's loggers, and has them keep it.

    Args:
        trainer: the run's.
        row: values by name.
        step: the optimizer step; None: the trainer's.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(row), step=trainer.global_step if step is None else step)
        logger.save()


class RunCallback(Callback):
    """A callback with hooks for what happens between a run's fits and at its end, beside Lightning's for each fit."""

    def on_examples_scored(self, trainer: Trainer, done: int, total: int) -> None:
        """Called on every rank as examples are read for the score that weights are pruned by.

        Args:
            trainer: the run's trainer.
            done: the examples that this rank has read.
            total: the examples that it will have read.
        """

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Called once on every rank when the run ends, for whatever reason.

        Args:
            trainer: the run's trainer.
            failed: whether an error or a signal ended it.
        """


@contextmanager
def notifying_run_end(trainer: Trainer) -> Iterator[None]:
    """Calls :meth:`RunCallback.on_run_end` of the trainer's callbacks when the ``with`` block, the run, ends."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for callback in trainer.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_run_end(trainer, failed=failed)
