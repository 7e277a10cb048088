"""Callbacks for a test's configuration that bring signals to a run at a known step, so that no test depends on time."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.signals import pending


class SignalAt(Callback):
    """Sends this process a signal in the middle of a step.

    Args:
        step: after so many optimizer steps of the whole run.
        name: the signal: ``SIGUSR1``.
        rank: the process that gets it.
    """

    def __init__(self, step: int, name: str, rank: int = 0) -> None:
        self.step, self.name, self.rank = step, name, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), getattr(signal, self.name))


class HoldAt(Callback):
    """Waits in some steps until a signal comes, and says so in a file.

    Args:
        steps: these, counted over the whole run.
        mark: the file; it gets a line for each time the first process begins to wait.
    """

    def __init__(self, steps: list[int], mark: str) -> None:
        self.steps, self.mark = steps, Path(mark)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step in self.steps:
            if trainer.global_rank == 0:
                with self.mark.open("a") as file:
                    file.write(f"{trainer.global_step}\n")
            while not pending():
                time.sleep(0.05)


class FailAt(Callback):
    """Raises an error in the middle of a step, the first time that a run comes there.

    Args:
        step: after so many optimizer steps of the whole run.
        mark: a file that says that it has done so.
    """

    def __init__(self, step: int, mark: str) -> None:
        self.step, self.mark = step, Path(mark)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step and not self.mark.exists():
            self.mark.touch()
            raise RuntimeError("failed on purpose")
