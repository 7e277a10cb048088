"""Progress over samples: a live line in a terminal, one line per sample in a log file."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lnsub.common.progress_file import note_progress


class SampleProgress:
    """Shows the current sample, how much of it is read, and the time left over all samples.

    Args:
        samples: how many samples are read.
        console: default: standard error.
    """

    def __init__(self, samples: int, console: Console | None = None) -> None:
        self._samples = samples
        self._console = console or Console(stderr=True)
        self._started = time.monotonic()
        self._done = 0
        self._title = ""
        self._display: Progress | None = None
        if self._console.is_terminal:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._display.add_task("", total=float(max(1, samples)), left="")
            self._display.start()

    def start(self, title: str) -> None:
        """Starts a sample."""
        self._title = title
        self._show("", 0.0)

    def read(self, done: int, total: int) -> None:
        """Advances within the sample: examples that are read, of all."""
        self._show(f" · {done}/{total} examples", done / max(1, total))

    def finish(self, outcome: str) -> None:
        """Ends the sample, with a short summary."""
        self._done += 1
        self.say(f"sample {self._done}/{self._samples} · {self._title} · {outcome}{self._left(0.0)}")
        self._show("", 0.0)

    def say(self, line: str) -> None:
        """Prints a line above the display."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Removes the live line."""
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _left(self, fraction: float) -> str:
        seconds = self._seconds_left(fraction)
        return "" if seconds is None else f" · {timedelta(seconds=round(seconds))} left in all"

    def _seconds_left(self, fraction: float) -> float | None:
        done = self._done + fraction
        return (time.monotonic() - self._started) / done * (self._samples - done) if done else None

    def _show(self, where: str, fraction: float) -> None:
        what = f"sample {min(self._done + 1, self._samples)}/{self._samples} · {self._title}{where}"
        note_progress(what, (self._done + fraction) / max(1, self._samples), self._seconds_left(fraction))
        if self._display is not None:
            self._display.update(
                self._display.task_ids[0],
                description=what,
                completed=self._done + fraction,
                left=self._left(fraction).removeprefix(" · "),
            )
