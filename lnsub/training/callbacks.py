"""Callbacks of a whole run, which may have many fits."""

from lightning.pytorch import Callback, Trainer


class RunCallback(Callback):
    """A callback that hears of the end of a run too, not only of each of its fits."""

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Called once on all ranks when the run has ended, however it ended.

        Args:
            trainer: the run's.
            failed: whether an error or a signal ended it.
        """
