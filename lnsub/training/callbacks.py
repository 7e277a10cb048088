"""Callbacks of a whole run, which may have many fits."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Callback, Trainer


class RunCallback(Callback):
    """A callback that hears of the end of a run too, not only of each of its fits."""

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Called once on all ranks when the run has ended, however it ended.

        Args:
            trainer: the run's.
            failed: whether an error or a signal ended it.
        """


@contextmanager
def notifying_run_end(trainer: Trainer) -> Iterator[None]:
    """Tells the trainer's callbacks of the end of a run, which is what happens inside."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for callback in trainer.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_run_end(trainer, failed=failed)
