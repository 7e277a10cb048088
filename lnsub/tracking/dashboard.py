"""A workspace on W&B that shows a study. It can be saved before there are any runs or reports to show."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.tracking.charts import CHARTS, stored_name
from lnsub.tracking.client import user_message
from lnsub.tracking.wandb_internals import workspace_spec


@dataclass(frozen=True)
class Dashboard:
    """What a dashboard shows.

    Attributes:
        entity: the team or user.
        project: the project.
        tasks: the tasks to show; empty: all of lnsub's.
        seeds: the seeds to show; empty: all.
        name: the view's name.
    """

    entity: str
    project: str
    tasks: Sequence[str] = ()
    seeds: Sequence[int] = ()
    name: str = "lnsub"

    def preview(self) -> str:
        """What would be saved, as JSON: the workspace and the charts that it uses. Needs neither a key nor a network.

        Raises:
            UserError: wandb-workspaces is not installed, or there is no such task.
        """
        workspace = workspace_spec(self._workspace())
        charts = {f"{self.entity}/{stored_name(key)}": spec for key, (_, spec) in CHARTS.items()}
        whole = {"entity": self.entity, "project": self.project, "name": self.name}
        return json.dumps({**whole, "workspace": workspace, "charts": charts}, indent=2, ensure_ascii=False)

    def save(self) -> str:
        """Stores the charts and saves the workspace as a new view.

        Returns:
            The view's address.

        Raises:
            UserError: wandb-workspaces is not installed, there is no such task or no API key, or W&B refuses.
        """
        workspace = self._workspace()
        import wandb

        try:
            logged_in = wandb.login(prompt=False, verify=False)
        except Exception as error:
            raise UserError(f"The W&B login does not work: {user_message(error)}.") from error
        if not logged_in:
            raise UserError(
                "A dashboard is saved on W&B, which needs an API key: set WANDB_API_KEY or run `wandb login`, "
                "or preview it with --dry-run."
            )
        try:
            api = wandb.Api()
            for key, (title, spec) in CHARTS.items():
                self._store(api, key, title, spec)
            return str(workspace.save().url)
        except Exception as error:
            raise UserError(
                f"W&B did not save the dashboard ({user_message(error)}). Check that project {self.entity}/"
                f"{self.project} exists and that this API key may write to it."
            ) from error

    def _store(self, api: Any, key: str, title: str, spec: dict[str, Any]) -> None:
        try:
            api.create_custom_chart(
                entity=self.entity,
                name=stored_name(key),
                display_name=title,
                spec_type="vega2",
                access="private",
                spec=spec,
            )
        except Exception as error:
            # Its name is a hash of its content, so an existing one is the same.
            if not any(word in str(error).lower() for word in ("exist", "duplicate", "already")):
                raise

    def _workspace(self) -> Any:
        from lnsub.tasks import tasks as all_tasks

        try:
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
        except ImportError as error:
            raise UserError(
                "A dashboard is made with the package wandb-workspaces, which is not installed: "
                "pip install 'lnsub[dashboard]'."
            ) from error
        known = all_tasks()
        tasks = [lookup("task", task, known) for task in self.tasks] or list(known.values())
        seeds = ws.Config("seed").isin(list(self.seeds)) if self.seeds else ws.Config("seed") >= 0
        # A report's run has no task or seed; without it, transfer and overlap would have no tables.
        of_tasks = ws.Config("task").isin([task.name for task in tasks])
        filters = ws.Or(ws.And(of_tasks, seeds), ws.Metric("JobType") == "report")
        metrics = {task.metric: task.metric_title for task in tasks}
        sections = [
            ("Metric against sparsity", [_metric(wr, *metric) for metric in metrics.items()]),
            ("Transfer", [self._chart(wr, "transfer", "transfer", "source", "target", "value")]),
            (
                "Overlap",
                [
                    self._layers(wr),
                    self._chart(wr, "overlap", "overlap", "language_a", "language_b", "overlap"),
                ],
            ),
            ("Training curves by sparsity", [_curves(wr, "train_loss"), *(_curves(wr, f"val_{m}") for m in metrics)]),
            ("Training over the whole run", [_whole(wr, "train_loss"), *(_whole(wr, f"val_{m}") for m in metrics)]),
        ]
        return ws.Workspace(
            entity=self.entity,
            project=self.project,
            name=self.name,
            sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections],
            settings=ws.WorkspaceSettings(x_axis="trainer/global_step", max_runs=100),
            runset_settings=ws.RunsetSettings(
                filters=filters,
                pinned_columns=[f"config:{key}" for key in ("task", "language", "seed", "source", "target", "sparsity")]
                + [f"summary:imp/val_{metric}" for metric in metrics],
            ),
        )

    def _chart(self, wr: Any, chart: str, table: str, row: str, column: str, value: str) -> Any:
        fields = {"row": row, "column": column, "value": value, "study": "study", "sparsity": "sparsity"}
        return self._custom(wr, chart, table, fields)

    def _layers(self, wr: Any) -> Any:
        fields = {"x": "layer", "value": "overlap", "study": "study", "sparsity": "sparsity", "dash": "relation"}
        return self._custom(wr, "layers", "overlap_by_layer", fields)

    def _custom(self, wr: Any, chart: str, table: str, fields: dict[str, str]) -> Any:
        return wr.CustomChart(
            query={"summaryTable": {"tableKey": table}},
            chart_name=f"{self.entity}/{stored_name(chart)}",
            chart_fields=fields,
            chart_strings={"title": CHARTS[chart][0].removeprefix("lnsub: ").capitalize()},
            layout=wr.Layout(w=24, h=12),
        )


def _metric(wr: Any, metric: str, title: str) -> Any:
    """The rounds' metric against sparsity: one line per task and language, the mean over seeds in a band."""
    return wr.LinePlot(
        title=f"{title[0].upper()}{title[1:]} against sparsity",
        x="imp/sparsity",
        y=[f"imp/val_{metric}"],
        title_x="sparsity",
        groupby=wr.Config("task_language"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        layout=wr.Layout(w=24, h=12),
    )


def _curves(wr: Any, metric: str) -> Any:
    """One metric of all rounds, each under its sparsity, over the round's own steps."""
    return wr.LinePlot(
        title=f"{metric} by sparsity",
        x="imp/step",
        y=[],
        metric_regex=rf"curves/s[0-9.]+_{metric}",
        title_x="step of the round",
        groupby=wr.Config("task_language"),
        groupby_aggfunc="mean",
        layout=wr.Layout(w=12, h=10),
    )


def _whole(wr: Any, metric: str) -> Any:
    return wr.LinePlot(title=metric, x="trainer/global_step", y=[metric], layout=wr.Layout(w=12, h=10))
