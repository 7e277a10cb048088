"""Progress over rounds: a live line in a terminal, one line per epoch in a log file."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from lnsub.common.progress_file import note_progress
from lnsub.training.budget import Budget
from lnsub.training.callbacks import RunCallback
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule


class RoundProgress(ProgressBar, RunCallback):
    """Shows round, sparsity, epoch, the main metric and the time left over all rounds of the run.

    Args:
        console: default: standard error, so that results can be piped.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True)
        self._enabled = True
        self._display: Progress | None = None
        self._start = time.monotonic()
        self._steps_here = 0  # optimizer steps made by this process
        self._fit_steps = 1
        self._fit_step = 0
        self._metric = ""

    def disable(self) -> None:
        """Hides the display; Lightning calls it on every rank except the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows the display."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a round's line."""
        assert isinstance(pl_module, SubnetModule)
        budget = pl_module.budget or Budget.of(trainer)
        self._fit_steps = pl_module.fit_steps(budget)
        imp = IMPCallback.of(trainer)
        self._fit_step = trainer.global_step - (imp.first_step if imp else 0)  # above 0 where the fit is resumed
        if self._enabled and self._console.is_terminal and self._display is None:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.completed}/{task.total} steps"),
                _TimeLeft(self),
                console=self._console,
                transient=True,
            )
            self._display.add_task("", total=self._fit_steps)
            self._display.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Moves the line on."""
        imp = IMPCallback.of(trainer)
        step = trainer.global_step - (imp.first_step if imp else 0)
        self._steps_here += step - self._fit_step
        self._fit_step = step
        if self._enabled:
            note_progress(self._where(trainer), self._done(trainer), self.seconds_left(trainer))
        if self._display is not None:
            self._display.update(
                self._display.task_ids[0], description=self._where(trainer), completed=step, total=self._fit_steps
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Updates the metric; in a log file, prints the epoch's line."""
        assert isinstance(pl_module, SubnetModule)
        name = f"val_{pl_module.task.metric}"
        if name in trainer.callback_metrics:
            self._metric = f"{name} {float(trainer.callback_metrics[name]):.4f}"
        if self._enabled and self._display is None and trainer.state.fn == TrainerFn.FITTING:
            left = self.seconds_left(trainer)
            self._console.print(f"{self._where(trainer)} · {_clock(left)} left", highlight=False, soft_wrap=True)

    def on_examples_scored(self, trainer: Trainer, done: int, total: int) -> None:
        """Counts the examples that a score is computed from; in a log file, prints a line once all are read."""
        imp = IMPCallback.of(trainer)
        where = f"{self._round(imp)} · scored {done}/{total} examples" if imp else f"scored {done}/{total} examples"
        if self._display is not None:
            self._display.update(self._display.task_ids[0], description=where)
        elif self._enabled and done == total:
            self._console.print(where, highlight=False, soft_wrap=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the line."""
        self._close()

    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Removes the line."""
        self._close()

    def _close(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def seconds_left(self, trainer: Trainer) -> float | None:
        """Estimated seconds until the last round ends; None before the first step."""
        if not self._steps_here:
            return None
        imp = IMPCallback.of(trainer)
        rounds_after = len(imp.levels) - 1 - imp.round if imp else 0
        steps = self._fit_steps - self._fit_step + rounds_after * self._fit_steps
        return (time.monotonic() - self._start) / self._steps_here * steps

    def _done(self, trainer: Trainer) -> float:
        """The share of all rounds' steps that are made."""
        imp = IMPCallback.of(trainer)
        rounds, before = (len(imp.levels), imp.round) if imp else (1, 0)
        return (before + self._fit_step / self._fit_steps) / rounds

    def _where(self, trainer: Trainer) -> str:
        imp = IMPCallback.of(trainer)
        epoch = trainer.current_epoch - (imp.first_epoch if imp else 0) + 1
        epochs = (trainer.max_epochs or -1) - (imp.first_epoch if imp else 0)
        parts = [self._round(imp)] if imp else ["fine-tuning"]
        parts.append(f"epoch {epoch}/{epochs}" if (trainer.max_epochs or -1) > 0 else f"epoch {epoch}")
        if self._metric:
            parts.append(self._metric)
        return " · ".join(parts)

    @staticmethod
    def _round(imp: IMPCallback) -> str:
        return f"round {imp.round}/{len(imp.levels) - 1} · sparsity {imp.sparsity:.2f}"


class _TimeLeft(ProgressColumn):
    """Time left over all rounds."""

    def __init__(self, owner: RoundProgress) -> None:
        super().__init__()
        self._owner = owner

    def render(self, task: Task) -> Text:
        trainer = self._owner.trainer
        return Text(f"{_clock(self._owner.seconds_left(trainer))} left in all", style="cyan")


def _clock(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
