"""A plan and a study's state, printed."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lnsub.study.display import clock, tally
from lnsub.study.estimates import estimate
from lnsub.study.job import KINDS
from lnsub.study.plan import Plan
from lnsub.study.queue import lost_of, queue_of
from lnsub.study.states import State, states_of

_STYLES = {"done": "green", "failed": "bold red", "blocked": "red", "running": "cyan", "interrupted": "yellow"}


def print_plan(plan: Plan, jobs: int, gpus: int, console: Console | None = None) -> None:
    """Prints every job with its command, what it needs and leaves, its state, and how long it may take.

    Args:
        plan: the plan.
        jobs: how many run at once, for the sum.
        gpus: GPUs that jobs have.
        console: default: standard output.
    """
    console = console or Console()
    states = states_of(plan)
    estimates = estimate(plan, states, at_once=jobs, gpus=gpus)
    for kind, title in KINDS.items():
        found = plan.of_kind(kind)
        if not found:
            continue
        console.print(Text(f"\n{title}: {len(found)} {'job' if len(found) == 1 else 'jobs'}", style="bold"))
        for job in found:
            state = states[job.id].name
            head = Text.assemble(
                (f"  {job.id}", "bold"), "  ", (state, _STYLES.get(state, "")), f"  {_about(estimates.whole[job.id])}"
            )
            console.print(head, soft_wrap=True)
            for label, words in (
                ("$", job.command),
                ("needs", ", ".join(job.needs)),
                ("after", _shortened(job.after)),
                ("leaves", job.leaves.shown),
            ):
                if words:
                    console.print(f"    {label:<7}{words}", soft_wrap=True, highlight=False, markup=False)
    console.print()
    for number in dict.fromkeys((1, jobs)):
        total = estimates.total(plan, number)
        at_once = "one at a time" if number == 1 else f"{number} at a time"
        console.print(f"{len(plan.jobs)} jobs, {at_once}: {_about(total)} left", highlight=False)
    source = "what has run here" if estimates.measured else "recorded rates, until a job has run here"
    console.print(f"Times are by {source}.", highlight=False, style="dim")


def print_status(plan: Plan, jobs: int, gpus: int, console: Console | None = None) -> None:
    """Prints the state of every job that is not done, and the sum.

    Args:
        plan: the plan.
        jobs: how many run at once here, for the time left; what SLURM runs counts as it is.
        gpus: GPUs that jobs have.
        console: default: standard output.
    """
    console = console or Console()
    queue = queue_of(plan)
    states = states_of(plan, None if queue is None else lost_of(plan) | queue)
    at_once = max(jobs, sum(state.name == "running" for state in states.values()))
    estimates = estimate(plan, states, at_once=at_once, gpus=gpus)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("state", no_wrap=True)
    table.add_column("job", no_wrap=True)
    table.add_column("left", justify="right", no_wrap=True)
    table.add_column("where it is, or why", overflow="fold")
    for job in plan.jobs:
        state = states[job.id]
        if state.name == "done":
            continue
        left = "" if state.name in {"failed", "blocked"} else clock(estimates.left[job.id])
        table.add_row(Text(state.name, style=_STYLES.get(state.name, "")), job.id, left, Text(_words(state)))
    if table.row_count:
        console.print(table)
    counts = ", ".join(f"{number} {name}" for name, number in tally(states).items())
    total = estimates.total(plan, at_once)
    left = f"; about {clock(total)} left with {at_once} at a time" if total else ""
    console.print(f"{plan.folder}: {len(states)} jobs: {counts}{left}", highlight=False, soft_wrap=True)
    if any(state.name == "failed" for state in states.values()):
        console.print(f"Logs: {plan.own / 'jobs'}/<job>/log.txt", highlight=False, soft_wrap=True)


def _words(state: State) -> str:
    if state.progress is not None and state.name == "running":
        return f"{state.progress.what} · {state.progress.done:.0%}"
    return state.reason


def _about(seconds: float | None) -> str:
    return "time unknown until its data is tokenised" if seconds is None else f"about {clock(seconds)}"


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
