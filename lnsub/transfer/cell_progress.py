"""Progress over cells: a live line in a terminal, one line per cell in a log file."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from lnsub.common.progress_line import ProgressLine, left_words
from lnsub.training.budget import Budget
from lnsub.training.module import SubnetModule


class CellProgress(Callback):
    """Shows the current cell, its progress, and the time left over all cells.

    It is added as a callback to each cell's trainer in turn.

    Args:
        cells: number of cells that this process will run.
        console: default: standard error.
        enabled: False hides the display, on every process of a cell except the first.
    """

    def __init__(self, cells: int, console: Console | None = None, *, enabled: bool = True) -> None:
        self._cells = cells
        self._line = ProgressLine(cells, console, enabled=enabled)
        self._started = time.monotonic()
        self._run = 0  # cells finished or failed
        self._skipped = 0
        self._fraction = 0.0
        self._fit_steps = 1
        self._title = ""

    def start(self, title: str) -> None:
        """Starts a cell."""
        self._title, self._fraction = title, 0.0
        self._show("")

    def finish(self, outcome: str, *, run: bool = True) -> None:
        """Ends the current cell.

        Args:
            outcome: a short summary.
            run: False if the cell was skipped, so that it does not count for the time estimate.
        """
        self._run, self._skipped, self._fraction = self._run + run, self._skipped + (not run), 0.0
        left = left_words(self.seconds_left())
        ended = f"cell {self._run + self._skipped}/{self._cells}"
        self._line.say(" · ".join([ended, self._title, outcome, *filter(None, [left])]))
        self._show("")

    def close(self) -> None:
        """Removes the line."""
        self._line.close()

    def seconds_left(self) -> float | None:
        """Estimated seconds until the last cell ends; None before the first step."""
        done = self._run + self._fraction
        if not done:
            return None
        return (time.monotonic() - self._started) / done * (self._cells - self._skipped - done)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the cell's length."""
        assert isinstance(pl_module, SubnetModule)
        self._fit_steps = pl_module.fit_steps(Budget.of(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Advances the line."""
        self._fraction = min(1.0, trainer.global_step / self._fit_steps)
        self._show(f" · epoch {trainer.current_epoch + 1} · {self._fraction:.0%}")

    def _show(self, where: str) -> None:
        ended = self._run + self._skipped
        what = f"cell {min(ended + 1, self._cells)}/{self._cells} · {self._title}{where}"
        self._line.show(what, ended + self._fraction, self.seconds_left())
