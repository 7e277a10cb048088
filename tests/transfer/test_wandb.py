"""A transfer's cells on W&B: one readable run for each cell, which names the ticket and base model that `fit` logs."""

from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.models.subnet import Subnet
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.tasks.wikiann import WikiANNTask
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.artifacts import base_artifact, ticket_artifact
from lnsub.tracking.logger import GLOBAL_STEP
from tests.support.ticket_factory import random_ticket
from tests.support.wandb_files import inspect


@pytest.fixture
def ticket(bert: str, tmp_path: Path) -> Ticket:
    """A ticket on English, in a tree of runs."""
    subnet = Subnet(WikiANNTask(bert).build(bert)[0])
    shapes = {name: tuple(weight.shape) for name, weight in subnet.weights.items()}
    made = random_ticket(
        0.5, 1, shapes, base_model=bert, base_fingerprint=subnet.fingerprint(), task="wikiann", language="en", seed=3
    )
    path = RunFolder.of(tmp_path / "runs", "wikiann", "en", 3).ticket(0.5)
    made.save(path)
    return Ticket.load(path)


def test_a_cell_is_one_run_that_names_its_ticket_also_when_it_is_run_again(wandb_client, bert, data, ticket, tmp_path):
    settings = {
        "data": "lnsub.WikiANN",
        "data.init_args.dataset": data,
        "data.init_args.batch_size": 4,
        "data.init_args.max_length": 32,
        "data.init_args.num_workers": 0,
        "model.base_model": bert,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.log_every_n_steps": 1,
        "wandb.project": "study",
    }
    config = tmp_path / "config.yaml"
    config.write_text("seed_everything: 7\n")
    arguments = ["transfer", "--config", str(config), "--tickets", str(ticket.path), "--languages", "fr"]
    arguments += ["--output", str(tmp_path / "out"), "--", *(f"--{key}={value}" for key, value in settings.items())]
    assert main(arguments) == 0
    (folder,) = map(RunFolder, (tmp_path / "out" / "cells").iterdir())
    records = read(folder.results)
    folder.results.unlink()  # as if the crash had come just before
    assert main(arguments) == 0

    runs = [inspect(path) for path in sorted(folder.path.glob("wandb/offline-run-*"))]
    assert [run.id for run in runs] == [(folder.path / "wandb" / "run-id").read_text()] * 2
    base = base_artifact(bert, ticket.provenance.base_fingerprint, RunFolder(tmp_path / "other"))
    inputs = {"ticket_artifact": ticket_artifact(ticket).name, "base_model_artifact": base.name}
    facts = {"task": "wikiann", "source": "en", "target": "fr", "sparsity": 0.5, "variant": "ticket", "seed": 7}
    for run in runs:
        assert run.name == "wikiann/en->fr/s0.50/seed7"
        assert (run.project, run.group, run.job_type) == ("study", "transfer-wikiann", "transfer")
        assert set(run.tags) == {"wikiann", "transfer", "en", "fr", "seed7"}
        assert (facts | inputs).items() <= run.config.items()
        assert run.config["data"]["init_args"]["language"] == "fr"
        assert run.exit_code == 0
        assert not run.made
        logged = {key: value for row in run.rows for key, value in row.items()}
        assert logged["transfer/sparsity"] == 0.5
        assert all(logged[f"transfer/validation_{record.metric}"] == record.value for record in records)
    assert [row[GLOBAL_STEP] for row in runs[0].rows if "train_loss" in row] == list(range(6))
