"""Whole runs on W&B: an interrupted one is resumed under one id, its tickets are artifacts, its ending is told."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.common.signals import EXIT_STATUS
from lnsub.runs.folder import RunFolder
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.logger import GLOBAL_STEP
from tests.support.wandb_files import Inspected, inspect
from tests.support.wandb_server import WandbServer

STEPS = 3 * 6
"""Of a run: rounds times steps."""


def disturbed(callback: str, /, **settings: object) -> dict[str, object]:
    """A callback of :mod:`tests.support.interrupting` that does something in the second round."""
    return {"class_path": f"tests.support.interrupting.{callback}", "init_args": {"step": 10, **settings}}


def fit(base: str, data: Path, output: Path, *callbacks: dict[str, object], **settings: object) -> list[str]:
    """`lnsub fit` with three rounds of six steps."""
    imp = {"class_path": "lnsub.IMPCallback", "init_args": {"sparsities": [0.3, 0.6]}}
    values: dict[str, object] = {
        "data": "lnsub.WikiANN",
        "data.init_args.language": "en",
        "data.init_args.dataset": data,
        "data.init_args.batch_size": 4,
        "data.init_args.max_length": 32,
        "data.init_args.num_workers": 0,
        "model.base_model": base,
        "model.learning_rate": 5e-3,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.log_every_n_steps": 1,
        "trainer.callbacks": json.dumps([imp, *callbacks]),
        "checkpoint_every_n_steps": 4,
        "wandb.project": "study",
        "output": output,
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return ["fit", *(f"--{key}={value}" for key, value in values.items())]


def starts(folder: RunFolder) -> list[Path]:
    """The folders that W&B's client left, in the order of time."""
    return sorted((folder.path / "wandb").glob("offline-run-*"))


def losses(run: Inspected) -> dict[int, tuple[float, float]]:
    """By the trainer's step: the training loss, and the same as a curve of its round."""
    found = {}
    for row in run.rows:
        if "train_loss" in row:
            (curve,) = (row[key] for key in row if key.startswith("curves/s") and key.endswith("_train_loss"))
            found[row[GLOBAL_STEP]] = (row["train_loss"], curve)
    return found


def test_a_run_that_failed_is_resumed_with_equal_values_at_equal_steps(wandb_client, bert, data, tmp_path):
    arguments = fit(bert, data, tmp_path / "runs", disturbed("FailAt", mark=str(tmp_path / "failed")))
    folder = RunFolder(tmp_path / "runs" / "wikiann" / "en" / "seed57")
    with pytest.raises(RuntimeError, match="failed on purpose"):
        main(arguments)
    assert main(arguments) == 0
    first, second = map(inspect, starts(folder))
    assert first.id == second.id == (folder.path / "wandb" / "run-id").read_text()
    assert (first.exit_code, first.preempting, second.exit_code) == (1, False, 0)

    before, after = losses(first), losses(second)
    assert before.keys() | after.keys() == set(range(STEPS))
    twice = before.keys() & after.keys()
    assert twice
    assert {step: before[step] for step in twice} == {step: after[step] for step in twice}
    assert all(loss == curve for loss, curve in (before | after).values())

    rounds = [row for run in (first, second) for row in run.rows if "imp/round" in row]
    assert [row["imp/sparsity"] for row in rounds] == [0.0, 0.3, 0.6]
    recorded = [record.value for record in folder.records("imp") if record.metric == "f1"]
    assert [row["imp/val_f1"] for row in rounds] == recorded

    tickets = {level: Ticket.load(folder.ticket(level)) for level in (0.3, 0.6)}
    made = first.made | second.made
    assert {json.loads(value["metadata"])["checksum"] for value in made.values()} == {
        ticket.checksum for ticket in tickets.values()
    }
    assert set(made) == {f"wikiann-en-seed57-s{s:.2f}-{ticket.checksum[:8]}" for s, ticket in tickets.items()}
    assert second.config["base_model_artifact"].endswith(tickets[0.3].provenance.base_fingerprint[:8])

    with WandbServer() as server:  # both starts, sent later
        sync = [sys.executable, "-m", "wandb", "sync", *map(str, starts(folder))]
        subprocess.run(sync, env={**os.environ, **server.environment()}, check=True, timeout=300, cwd=tmp_path)
        (run,) = server.runs.values()
        assert (run.id, run.exit_code) == (first.id, 0)
        assert [row[GLOBAL_STEP] for row in run.rows] == [row[GLOBAL_STEP] for row in (*first.rows, *second.rows)]
        assert {label.removesuffix(":v0") for label in run.made} == set(made)
        for artifact in server.artifacts.values():
            (level,) = (s for s in tickets if f"s{s:.2f}" in artifact.name)
            stored = server.files[f"/artifacts/{artifact.id}/ticket.safetensors"]
            assert stored == folder.ticket(level).read_bytes()
        assert not server.unknown


def test_a_run_that_a_signal_stopped_is_preempted_and_then_whole(wandb_client, bert, data, tmp_path):
    arguments = fit(bert, data, tmp_path / "runs", disturbed("SignalAt", name="SIGUSR1"))
    folder = RunFolder(tmp_path / "runs" / "wikiann" / "en" / "seed57")
    assert main(arguments) == EXIT_STATUS
    assert main(arguments) == 0
    first, second = map(inspect, starts(folder))
    assert first.id == second.id
    assert (first.exit_code, first.preempting) == (EXIT_STATUS, True)
    assert (second.exit_code, second.preempting) == (0, False)
    assert losses(first).keys() | losses(second).keys() == set(range(STEPS))

    assert main(arguments) == 0  # all is done, so there is nothing to log
    assert len(starts(folder)) == 2


@pytest.mark.slow
def test_of_two_nodes_the_first_process_alone_logs(wandb_client, bert, data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two = {"trainer__devices": 1, "trainer__num_nodes": 2, "trainer__strategy": "ddp"}
    arguments = fit(bert, data, tmp_path / "runs", **two)
    folder = RunFolder(tmp_path / "runs" / "wikiann" / "en" / "seed57")
    # As a person starts Lightning by hand: nothing tells a process its global rank before the trainer knows it.
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    env["HF_DATASETS_CACHE"] = str(tmp_path / "cache")
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "lnsub", *arguments],
            env={**env, "NODE_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    (path,) = starts(folder)
    run = inspect(path)
    assert run.id == (folder.path / "wandb" / "run-id").read_text()
    assert list(losses(run)) == list(range(STEPS // 2))  # each process takes half of the batches
    with (folder.path / "metrics.csv").open(newline="") as file:
        rounds = [row["imp/sparsity"] for row in csv.DictReader(file) if row["imp/sparsity"]]
    assert rounds == ["0.0", "0.3", "0.6"]
