"""The W&B logger through the real client: one run however often it is started, one axis for each metric."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import pytest
import wandb

from lnsub.common.errors import UserError
from lnsub.common.signals import EXIT_STATUS
from lnsub.tracking.logger import GLOBAL_STEP, axis_of
from tests.support.wandb_files import Inspected, inspect
from tests.support.wandb_server import WandbServer


def starts(folder: Path) -> list[Inspected]:
    """What each start of the run left, in the order of time."""
    return [inspect(path) for path in sorted(folder.glob("run/wandb/offline-run-*"))]


def artifact(kind: str, name: str, content: Path) -> wandb.Artifact:
    content.write_text(name)
    made = wandb.Artifact(name, type=kind)
    made.add_file(str(content), policy="immutable", skip_cache=True)
    return made


def own(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What lnsub, and not the client, logged."""
    return [record for record in caplog.records if record.name.startswith("lnsub")]


def test_each_metric_has_exactly_one_axis():
    axes = {key: axis_of(key) for key in ("imp/val_f1", "imp/round", "curves/s0.50_train_loss", "train_loss", "val_f1")}
    assert axes == {
        "imp/val_f1": "imp/sparsity",
        "imp/round": "imp/sparsity",
        "curves/s0.50_train_loss": "imp/step",
        "train_loss": GLOBAL_STEP,
        "val_f1": GLOBAL_STEP,
    }
    assert axis_of("imp/sparsity") is None
    assert axis_of("imp/step") is None


def test_each_start_of_a_run_has_its_id_its_card_and_its_axes(wandb_client, start_run, tmp_path):
    for steps, ending in (((4, 5), {"failed": True, "preempted": True}), ((5, 6), {})):
        logger = start_run()
        logger.begin_round(0.5, 4)
        for step in steps:
            logger.log_metrics({"train_loss": step / 10, "epoch": 0}, step=step)
        logger.log_metrics({"imp/round": 1.0, "imp/sparsity": 0.5, "imp/val_f1": 0.9}, step=steps[-1])
        logger.finish(**ending)
    first, second = starts(tmp_path)
    assert first.id == second.id == (tmp_path / "run" / "wandb" / "run-id").read_text()
    for run in (first, second):
        assert (run.project, run.name, run.group, run.job_type) == ("study", "xnli/fr/seed57", "xnli", "imp")
        assert set(run.tags) == {"xnli", "fr", "pilot"}
        assert {"task": "xnli", "language": "fr", "model": {"seed": 1}}.items() <= run.config.items()
        assert run.axes == {
            "train_loss": GLOBAL_STEP,
            "epoch": GLOBAL_STEP,
            "curves/s0.50_train_loss": "imp/step",
            "imp/val_f1": "imp/sparsity",
            "imp/round": "imp/sparsity",
        }
    assert (first.exit_code, first.preempting) == (EXIT_STATUS, True)
    assert (second.exit_code, second.preempting) == (0, False)
    curves = [(row["imp/step"], row["curves/s0.50_train_loss"]) for row in second.rows if "imp/step" in row]
    assert curves == [(1, 0.5), (2, 0.6)]


def test_offline_inputs_are_named_in_the_configuration_and_outputs_are_artifacts(wandb_client, start_run, tmp_path):
    logger = start_run()
    logger.log_input(lambda: artifact("base-model", "mbert-12345678", tmp_path / "in"))
    logger.log_output(lambda: artifact("ticket", "xnli-fr-s0.50", tmp_path / "out"))
    logger.finish()
    (run,) = starts(tmp_path)
    assert run.config["base_model_artifact"] == "mbert-12345678"
    assert list(run.made) == ["xnli-fr-s0.50"]


def test_online_a_run_is_resumed_under_its_id_with_its_lineage(wandb_client, start_run, tmp_path):
    with WandbServer() as server:
        for name, value in server.environment().items():
            wandb_client.setenv(name, value)
        for steps in ((0, 1, 2), (2, 3)):
            logger = start_run()
            logger.log_input(lambda: artifact("base-model", "mbert", tmp_path / "in"))
            for step in steps:
                logger.log_metrics({"train_loss": step / 10}, step=step)
            logger.log_output(lambda: artifact("ticket", "s0.50", tmp_path / "out"))
            logger.finish()
        wandb.teardown()
        (run,) = server.runs.values()
        assert run.id == (tmp_path / "run" / "wandb" / "run-id").read_text()
        losses = [(row[GLOBAL_STEP], row["train_loss"]) for row in run.rows]
        assert losses == [(0, 0.0), (1, 0.1), (2, 0.2), (2, 0.2), (3, 0.3)]
        assert [row["_step"] for row in run.rows] == [0, 1, 2, 3, 4]
        assert run.config["base_model_artifact"]["value"] == "mbert"
        assert set(run.used) == {"mbert:v0"}
        assert set(run.made) == {"s0.50:v0"}
        assert all(stored.committed for stored in server.artifacts.values())
        assert run.exit_code == 0
        assert not server.unknown


def test_a_failure_is_reported_once_and_leaves_the_rest_logged(wandb_client, start_run, tmp_path, caplog):
    logger = start_run()
    for step in range(2):
        logger.log_output(lambda: artifact("ticket", "not a name / of an artifact", tmp_path / "out"))
        logger.log_metrics({"train_loss": 0.5}, step=step)
    logger.finish()
    assert [record.levelname for record in own(caplog)] == ["WARNING"]
    assert [row[GLOBAL_STEP] for row in starts(tmp_path)[0].rows] == [0, 1]


def test_a_service_that_dies_stops_no_run(wandb_client, start_run):
    def train() -> None:
        logger = start_run()
        logger.log_metrics({"train_loss": 0.5}, step=0)
        for pid in reversed(descendants(os.getpid())):
            os.kill(pid, signal.SIGKILL)
        for step in range(1, 5):
            logger.log_metrics({"train_loss": 0.5}, step=step)
            time.sleep(0.1)
        logger.log_input(lambda: wandb.Artifact("a", type="b"))
        logger.finish()

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            train()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def descendants(root: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{root}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def test_a_server_that_cannot_be_reached_leaves_the_run_offline(wandb_client, start_run, tmp_path, caplog):
    wandb_client.setenv("WANDB_API_KEY", "0" * 40)
    wandb_client.setenv("WANDB_MODE", "online")
    wandb_client.setenv("WANDB_INIT_TIMEOUT", "2")
    logger = start_run()
    logger.log_metrics({"train_loss": 0.5}, step=3)
    logger.finish()
    assert [record.levelname for record in own(caplog)] == ["WARNING"]
    run = starts(tmp_path)[-1]
    assert run.id == (tmp_path / "run" / "wandb" / "run-id").read_text()
    assert [(row[GLOBAL_STEP], row["train_loss"]) for row in run.rows] == [(3, 0.5)]


def test_disabled_leaves_no_files(wandb_client, start_run, tmp_path):
    wandb_client.setenv("WANDB_MODE", "disabled")
    logger = start_run()
    logger.log_input(lambda: artifact("base-model", "mbert", tmp_path / "in"))
    logger.log_metrics({"train_loss": 0.5}, step=3)
    logger.finish()
    assert not list(tmp_path.rglob("*.wandb"))


def test_an_unknown_mode_is_refused_before_anything_is_computed(wandb_client, start_run):
    wandb_client.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="WANDB_MODE"):
        start_run()
