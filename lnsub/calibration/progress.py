"""Progress over samples: a live line in a terminal, one line per sample in a log file."""

import time

from rich.console import Console

from lnsub.common.progress_line import ProgressLine, left_words


class SampleProgress:
    """Shows the current sample, how much of it is read, and the time left over all samples.

    Args:
        samples: how many samples are read.
        console: default: standard error.
    """

    def __init__(self, samples: int, console: Console | None = None) -> None:
        self._samples = samples
        self._line = ProgressLine(samples, console)
        self._started = time.monotonic()
        self._done = 0
        self._title = ""

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
        left = left_words(self._seconds_left(0.0))
        self.say(" · ".join([f"sample {self._done}/{self._samples}", self._title, outcome, *filter(None, [left])]))
        self._show("", 0.0)

    def say(self, line: str) -> None:
        """Prints a line above the display."""
        self._line.say(line)

    def close(self) -> None:
        """Removes the live line."""
        self._line.close()

    def _seconds_left(self, fraction: float) -> float | None:
        done = self._done + fraction
        return (time.monotonic() - self._started) / done * (self._samples - done) if done else None

    def _show(self, where: str, fraction: float) -> None:
        what = f"sample {min(self._done + 1, self._samples)}/{self._samples} · {self._title}{where}"
        self._line.show(what, self._done + fraction, self._seconds_left(fraction))
