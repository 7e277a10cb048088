from pathlib import Path

from lnsub.analysis.main_metric import MainMetric, main_metrics, of_main_metric, task_title
from lnsub.runs.records import append
from lnsub.runs.tree import read_runs
from lnsub.tasks import tasks
from tests.support.report_tree import record


def test_a_task_says_which_of_its_metrics_speaks_for_it(tmp_path: Path) -> None:
    for name, task in tasks().items():
        values = [("loss", 1.5), (task.metric, 0.5 if task.higher_is_better else 8.5)]
        append(tmp_path / "results.jsonl", [record("imp", name, "fr", "fr", v, metric=m) for m, v in values])
        assert task_title(name) == task.title
    frame = read_runs(tmp_path)
    assert main_metrics(frame) == {
        name: MainMetric(task.metric, task.metric_title, task.higher_is_better, task.higher_is_better, task.chance)
        for name, task in tasks().items()
    }
    found = of_main_metric(frame).to_dict("records")
    assert {row["task"]: (row["metric"], row["higher_is_better"]) for row in found} == {
        name: (task.metric, task.higher_is_better) for name, task in tasks().items()
    }
    assert main_metrics(frame)["mlm"].sign == -1


def test_an_unknown_task_has_its_accuracy_or_its_first_metric_and_higher_is_better(tmp_path: Path) -> None:
    rows = [record("imp", "qa", "fr", "fr", v, metric=m) for m, v in (("exact", 0.5), ("accuracy", 0.6))]
    rows += [record("imp", "translation", "fr", "fr", 27.3, metric="bleu")]
    append(tmp_path / "results.jsonl", rows)
    frame = read_runs(tmp_path)
    expected = {"qa": MainMetric("accuracy", "accuracy"), "translation": MainMetric("bleu", "bleu", is_share=False)}
    assert main_metrics(frame) == expected
    assert list(of_main_metric(frame)["metric"]) == ["accuracy", "bleu"]
    assert task_title("qa") == "qa"


def test_without_records_there_is_no_metric(tmp_path: Path) -> None:
    assert main_metrics(read_runs(tmp_path)) == {}
    assert of_main_metric(read_runs(tmp_path)).empty
