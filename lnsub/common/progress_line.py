"""A live line over things that are done one after the other: what is done, a bar, and the time left."""

from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from lnsub.common.progress_file import note_progress


class ProgressLine:
    """A live line in a terminal, which lines of text scroll above; elsewhere, those lines alone.

    Args:
        total: how many things there are.
        console: default: standard error.
        enabled: False shows and notes nothing.
    """

    def __init__(self, total: int, console: Console | None = None, *, enabled: bool = True) -> None:
        self._total = max(1, total)
        self._console = console or Console(stderr=True)
        self._enabled = enabled
        self._display: Progress | None = None
        if enabled and self._console.is_terminal:
            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._display.add_task("", total=float(self._total), left="")
            self._display.start()

    def show(self, what: str, done: float, seconds_left: float | None) -> None:
        """Shows the state, also to who started this process (:mod:`lnsub.common.progress_file`).

        Args:
            what: words for the current thing.
            done: how many things are done, with the part of the current one.
            seconds_left: for all of them; None: not known.
        """
        if self._enabled:
            note_progress(what, done / self._total, seconds_left)
        if self._display is not None:
            self._display.update(
                self._display.task_ids[0], description=what, completed=done, left=left_words(seconds_left)
            )

    def say(self, line: str) -> None:
        """Prints a line above the live one."""
        if self._enabled:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Removes the live line."""
        if self._display is not None:
            self._display.stop()
            self._display = None


def left_words(seconds: float | None) -> str:
    """Says how much time is left; empty where that is not known."""
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left in all"
