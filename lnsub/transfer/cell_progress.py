"""Progress over cells: a live line in a terminal, one line per cell in a log file."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lnsub.common.progress_file import note_progress
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
        self._console = console or Console(stderr=True)
        self._enabled = enabled
        self._started = time.monotonic()
        self._run = 0  # cells finished or failed
        self._skipped = 0
        self._fraction = 0.0
        self._fit_steps = 1
        self._title = ""
        self._display: Progress | None = None
        if enabled and self._console.is_terminal:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._display.add_task("", total=float(max(1, cells)), left="")
            self._display.start()

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
        if self._enabled:
            self._console.print(
                f"cell {self._run + self._skipped}/{self._cells} · {self._title} · {outcome}{self._left()}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
        self._show("")

    def close(self) -> None:
        """Removes the line."""
        if self._display is not None:
            self._display.stop()
            self._display = None

    def seconds_left(self) -> float | None:
        """Estimated seconds until the last cell ends; None before the first step."""
        done = self._run + self._fraction
        if not done:
            return None
        return (time.monotonic() - self._started) / done * (self._cells - self._skipped - done)

    def _left(self) -> str:
        seconds = self.seconds_left()
        return "" if seconds is None else f" · {timedelta(seconds=round(seconds))} left in all"

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
        if self._enabled:
            note_progress(what, (ended + self._fraction) / max(1, self._cells), self.seconds_left())
        if self._display is not None:
            self._display.update(
                self._display.task_ids[0],
                description=what,
                completed=ended + self._fraction,
                left=self._left().removeprefix(" · "),
            )
