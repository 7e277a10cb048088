"""Callbacks for test configurations that send signals to a run at a given step, independent of timing."""

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
        step: the global step.
        name: the signal: ``SIGUSR1``.
        rank: the process that gets it.
    """

    def __init__(self, step: int, name: str, rank: int = 0) -> None:
        self.step, self.name, self.rank = step, name, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), getattr(signal, self.name))


class HoldAt(Callback):
    """Waits in some steps until a signal arrives, and records it in a file.

    Args:
        steps: the global steps.
        mark: the file; it gets a line each time the first process starts to wait.
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


class StickAt(Callback):
    """Has the next checkpoint's write stick, once: a FIFO that nobody reads takes the place of its file.

    Args:
        step: the global step at which that is prepared.
        mark: a file that is created once the write sticks and training has gone on for two more steps.
    """

    def __init__(self, step: int, mark: str) -> None:
        self.step, self.mark = step, Path(mark)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.mark.exists():
            return
        part = Path(trainer.default_root_dir) / "checkpoints" / "last.partial"
        if trainer.global_step == self.step:
            while part.exists():  # the checkpoint before
                time.sleep(0.01)
            part.parent.mkdir(exist_ok=True)
            os.mkfifo(part)
        if trainer.global_step == self.step + 3:
            self.mark.touch()


class FailAt(Callback):
    """Raises an error in the middle of a step, once.

    Args:
        step: the global step.
        mark: a file that is created when it happens.
    """

    def __init__(self, step: int, mark: str) -> None:
        self.step, self.mark = step, Path(mark)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step and not self.mark.exists():
            self.mark.touch()
            raise RuntimeError("failed on purpose")
