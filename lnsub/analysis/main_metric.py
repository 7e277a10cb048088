"""The metric that speaks for each task, and which way is better.

The tasks bring torch, so they are asked for only where a task's facts are needed.
"""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class MainMetric:
    """The metric that speaks for a task.

    Attributes:
        name: its name in records.
        title: what figures and tables call it.
        higher_is_better: its direction.
        is_share: it lies between 0 and 1, as accuracy and F1 do, so that it can be written in percent.
        chance: its value where nothing has been learnt, see :attr:`lnsub.tasks.task.Task.chance`; None where unknown.
    """

    name: str
    title: str
    higher_is_better: bool = True
    is_share: bool = True
    chance: float | None = None

    @property
    def sign(self) -> int:
        """What turns a change of the metric into a gain: 1, or -1 where lower is better."""
        return 1 if self.higher_is_better else -1


def task_title(name: str) -> str:
    """What figures and tables call a task: its title, or its name where lnsub does not know it."""
    from lnsub.tasks import tasks

    return tasks()[name].title if name in tasks() else name


def main_metrics(frame: pd.DataFrame) -> dict[str, MainMetric]:
    """Finds the main metric of each task that has records.

    Args:
        frame: records, see :func:`lnsub.runs.tree.read_runs`.

    Returns:
        By task: the main metric that the task names; for a task that lnsub does not know, accuracy, F1 or the metric
        recorded first, and higher is better.
    """
    from lnsub.tasks import tasks

    found = {}
    for task, rows in frame.groupby("task", sort=False):
        if known := tasks().get(str(task)):
            name, title, higher, chance = known.metric, known.metric_title, known.higher_is_better, known.chance
        else:
            recorded = list(rows["metric"])
            name = title = next((usual for usual in ("accuracy", "f1") if usual in recorded), str(recorded[0]))
            higher, chance = True, None
        values = rows.loc[rows["metric"] == name, "value"]
        found[str(task)] = MainMetric(name, title, higher, higher and bool(values.between(0, 1).all()), chance)
    return found


def of_main_metric(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps, of each task, the records of its main metric.

    Args:
        frame: records, see :func:`lnsub.runs.tree.read_runs`.

    Returns:
        Those rows, with the column ``higher_is_better``.
    """
    metrics = main_metrics(frame)
    kept = frame[frame["metric"] == frame["task"].map({task: metric.name for task, metric in metrics.items()})]
    return kept.assign(higher_is_better=[metrics[task].higher_is_better for task in kept["task"]])
