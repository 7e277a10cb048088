"""The dashboard: its preview needs neither key nor network, its charts use a report's columns, it is saved."""

import json
import re
import sys

import pytest
import wandb

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.report import report
from lnsub.tasks import tasks
from lnsub.tracking.charts import CHARTS, stored_name
from lnsub.tracking.dashboard import Dashboard
from lnsub.tracking.logger import axis_of
from tests.support.report_tree import write_tree
from tests.support.wandb_server import WandbServer

ARGS = ["--entity", "team", "--project", "study"]
METRICS = {task.metric: task.metric_title for task in tasks().values()}
"""The main metrics of lnsub's tasks, with their printed names."""


def previewed(capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    assert run("dashboard", [*ARGS, "--dry-run", *more]) == 0
    return json.loads(capsys.readouterr().out)


def panels(shown: dict) -> dict[str, list[dict]]:
    sections = shown["workspace"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def test_the_dry_run_has_every_part_and_needs_no_key(wandb_client, capsys):
    found = panels(previewed(capsys))
    assert list(found) == [
        "Metric against sparsity",
        "Transfer",
        "Overlap",
        "Training curves by sparsity",
        "Training over the whole run",
    ]
    drawn = [panel["config"] for panel in found["Metric against sparsity"]]
    assert [panel["metrics"] for panel in drawn] == [[f"imp/val_{metric}"] for metric in METRICS]
    for panel, title in zip(drawn, METRICS.values(), strict=True):
        assert title.lower() in panel["chartTitle"].lower()
        assert panel["xAxis"] == "imp/sparsity" == axis_of(panel["metrics"][0])
        assert panel["groupBy"] == "task_language.value"  # W&B keeps each setting's value under that name
    curves = found["Training curves by sparsity"][0]["config"]
    assert curves["xAxis"] == "imp/step"
    assert re.fullmatch(curves["metricRegex"], "curves/s0.50_train_loss")
    assert axis_of("curves/s0.50_train_loss") == "imp/step"


def passes(filters: list[dict], run: dict[str, dict]) -> bool:
    """Whether a run gets through filters, each joined to those before it by its connector."""
    result = True
    for place, one in enumerate(filters):
        if "filters" in one:
            value = passes(one["filters"], run)
        else:
            there, wanted = run[one["key"]["section"]].get(one["key"]["name"]), one["value"]
            compare = {"IN": lambda a, b: a in b, "=": lambda a, b: a == b, ">=": lambda a, b: a is not None and a >= b}
            value = compare[one["op"]](there, wanted)
        joined = one.get("connector", "AND") if place else "AND"
        result = (result and value) if joined == "AND" else (result or value)
    return result


@pytest.mark.parametrize(
    ("options", "through"),
    [
        ([], {"xnli 57", "xnli 58", "mlm 57", "report"}),
        (["--tasks", "xnli"], {"xnli 57", "xnli 58", "report"}),
        (["--tasks", "xnli,mlm", "--seeds", "57"], {"xnli 57", "mlm 57", "report"}),
    ],
)
def test_runs_are_filtered_by_task_and_seed_and_a_report_always_gets_through(options, through, wandb_client, capsys):
    runs = {
        f"{task} {seed}": {"config": {"task": task, "seed": seed}, "run": {"jobType": "imp"}}
        for task, seed in (("xnli", 57), ("xnli", 58), ("mlm", 57), ("other", 57))
    }
    runs["report"] = {"config": {}, "run": {"jobType": "report"}}
    (runset,) = previewed(capsys, *options)["workspace"]["section"]["runSets"]
    assert {name for name, run in runs.items() if passes(runset["filters"]["filters"], run)} == through


def test_only_the_metrics_of_the_tasks_asked_for_are_drawn(wandb_client, capsys):
    shown = panels(previewed(capsys, "--tasks", "wikiann"))
    assert [p["config"]["metrics"] for p in shown["Metric against sparsity"]] == [["imp/val_f1"]]


def test_each_chart_asks_for_columns_that_the_reports_table_has(wandb_client, capsys, tmp_path):
    tables = report(write_tree(tmp_path / "runs"), tmp_path / "report.html").tables
    shown = previewed(capsys)
    drawn = set()
    for panel in (panel for section in panels(shown).values() for panel in section if panel["viewType"] == "Vega2"):
        config = panel["config"]
        (query,) = config["userQuery"]["queryFields"]
        (asked,) = [field for field in query["fields"] if field["name"] == "summaryTable"]
        table = tables[asked["args"][0]["value"]]
        assert set(config["fieldSettings"].values()) <= set(table.columns)
        spec = json.dumps(shown["charts"][config["panelDefId"]])
        assert set(re.findall(r"\$\{field:(\w+)\}", spec)) == set(config["fieldSettings"])
        assert set(re.findall(r"\$\{string:(\w+)\}", spec)) == set(config["stringSettings"])
        drawn.add(config["panelDefId"])
    assert drawn == set(shown["charts"])


def test_without_a_key_it_says_what_is_missing(wandb_client):
    with pytest.raises(UserError, match="WANDB_API_KEY"):
        run("dashboard", ARGS)


def test_without_the_package_it_says_what_to_install(wandb_client, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(UserError, match=re.escape("pip install 'lnsub[dashboard]'")):
        run("dashboard", [*ARGS, "--dry-run"])


@pytest.mark.parametrize(
    ("options", "match"),
    [(["--tasks", "xnl"], "xnli"), (["--seeds", "57,a"], "--seeds.*57,58.*'a'")],
)
def test_what_cannot_be_filtered_by_is_refused(options, match, wandb_client):
    with pytest.raises(UserError, match=match):
        run("dashboard", [*ARGS, "--dry-run", *options])


def test_it_is_saved_on_the_server_with_its_charts(wandb_client, capsys):
    with WandbServer() as server:
        for name, value in server.environment().items():
            wandb_client.setenv(name, value)
        assert run("dashboard", ARGS) == 0
        assert "Dashboard: " in capsys.readouterr().out
        (view,) = server.views.values()
        assert (view["entityName"], view["projectName"], view["displayName"]) == ("team", "study", "lnsub")
        assert view["type"] == "project-view"
        names = [section["name"] for section in json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]]
        assert names == list(panels(json.loads(Dashboard("team", "study").preview())))
        assert set(server.charts) == {stored_name(chart) for chart in CHARTS}
        assert json.loads(server.charts[stored_name("transfer")]["spec"]) == CHARTS["transfer"][1]
        assert run("dashboard", ARGS) == 0  # the charts are there already
        assert len(server.views) == 2
        server.refuse_views = True
        with pytest.raises(UserError, match="team/study"):
            run("dashboard", ARGS)
        assert not server.unknown
    wandb.teardown()
