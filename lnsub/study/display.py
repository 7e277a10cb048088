"""What a study shows while it runs: a live table in a terminal, a line for each job in a log file."""

from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lnsub.common.signals import EXIT_STATUS
from lnsub.study.estimates import Estimates, estimate
from lnsub.study.job import Job
from lnsub.study.plan import Plan
from lnsub.study.states import Attempt, State


class Display:
    """Shows a study's progress; use it as a context.

    Args:
        plan: the plan.
        jobs: how many run at once.
        gpus: GPUs that jobs have.
        console: default: standard error.
    """

    def __init__(self, plan: Plan, jobs: int, gpus: int = 0, console: Console | None = None) -> None:
        self._plan = plan
        self._jobs = jobs
        self._gpus = gpus
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._states: Mapping[str, State] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, job: Job) -> None:
        """Notes that a job has started."""
        if self._live is None:
            self.note(f"started {job.id}")

    def ended(self, job: Job, attempt: Attempt, reason: str) -> None:
        """Notes that a job has ended."""
        took = clock(attempt.seconds)
        if attempt.status == EXIT_STATUS:
            self.note(f"saved {job.id} after {took}")
        else:
            self.note(f"{'failed' if reason else 'done'} {job.id} in {took}{f': {reason}' if reason else ''}")

    def note(self, line: str) -> None:
        """Prints a line above the table."""
        self._console.print(f"{line}{self._sum()}", highlight=False, markup=False, soft_wrap=True)

    def show(self, states: Mapping[str, State]) -> None:
        """Updates the table."""
        self._states = states
        if self._live is not None:
            self._live.update(self._drawn())

    def _estimates(self) -> Estimates:
        return estimate(self._plan, self._states, at_once=self._jobs, gpus=self._gpus)

    def _sum(self) -> str:
        if not self._states:
            return ""
        done = sum(state.name == "done" for state in self._states.values())
        left = self._estimates().total(self._plan, self._jobs)
        return f" · {done}/{len(self._states)} jobs done" + (f" · {clock(left)} left" if left else "")

    def _drawn(self) -> Group:
        estimates = self._estimates()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("job", "where it is", "", "left"):
            table.add_column(heading, no_wrap=True, justify="right" if heading == "left" else "left")
        for job in self._plan.jobs:
            state = self._states[job.id]
            if state.name == "running":
                progress = state.progress
                done = progress.done if progress else 0.0
                what = Text(progress.what if progress else "starting", overflow="ellipsis")
                table.add_row(job.id, what, ProgressBar(1.0, done, width=20), clock(estimates.left[job.id]))
        counts = [f"{number} {name}" for name, number in tally(self._states).items()]
        total = estimates.total(self._plan, self._jobs)
        return Group(table, Text(f"{' · '.join(counts)} · {clock(total)} left in all", style="cyan"))


def tally(states: Mapping[str, State]) -> dict[str, int]:
    """How many jobs are in each state, in the order of their names' first appearance."""
    names = [state.name for state in states.values()]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds; a question mark where unknown."""
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))
