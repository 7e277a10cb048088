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
    """A callback that hears of the end of a run too, not only of each of its fits."""

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Called once on all ranks when the run has ended, however it ended.

        Args:
            trainer: the run's.
            failed: whether an error or a signal ended it.
        """


@contextmanager
def announced_end(trainer: Trainer) -> Iterator[None]:
    """Tells the trainer's callbacks of the end of a run, which is what happens inside."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for callback in trainer.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_run_end(trainer, failed=failed)
