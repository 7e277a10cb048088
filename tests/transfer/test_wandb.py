"""A transfer's cells on W&B: one readable run a cell, which uses the ticket and the base model that `fit` logged."""

import json

import pytest

from lnsub.cli.main import main
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.tracking.artifacts import base_artifact, ticket_artifact
from tests.support.wandb_files import inspect
from tests.tracking.test_wandb import client  # noqa: F401 (fixture)
from tests.transfer.test_transfer import arguments, cache, ticket_of, world  # noqa: F401 (fixtures)


@pytest.mark.slow
def test_a_cell_is_one_run_that_uses_its_ticket_also_when_it_is_run_again(world, tmp_path, client, capsys):  # noqa: F811
    client.setenv("WANDB_MODE", "offline")
    args = arguments(world, tmp_path / "out", tickets="wikiann/*", languages="bb")
    args += ["--", "--wandb.project=study", "--trainer.log_every_n_steps=1"]
    assert main(args) == 0
    (folder,) = map(RunFolder, (tmp_path / "out" / "cells").iterdir())
    records = read(folder.results)
    folder.results.unlink()  # as if the crash had come just before
    assert main(args) == 0

    files = [inspect(path) for path in sorted(folder.path.glob("wandb/offline-run-*"))]
    assert [file.id for file in files] == [(folder.path / "wandb" / "run-id").read_text()] * 2
    for file in files:
        assert file.name == "wikiann/aa->bb/s0.50/seed7"
        assert (file.project, file.group, file.job_type) == ("study", "transfer-wikiann", "transfer")
        assert set(file.tags) == {"wikiann", "transfer", "aa", "bb", "seed7"}
        facts = {"task": "wikiann", "source": "aa", "target": "bb", "sparsity": 0.5, "variant": "ticket", "seed": 7}
        assert facts.items() <= file.config.items()
        assert file.config["data"]["init_args"]["language"] == "bb"
        assert file.exit_code == 0
    values = [value for file in files for value in file.values()]
    assert len({(step, key) for step, key, _ in values}) == len(values)
    assert sorted(step for step, key, _ in values if key == "train_loss") == list(range(8))
    logged = {key: value for _, key, value in values}
    assert logged["transfer/sparsity"] == 0.5
    for record in records:
        assert logged[f"transfer/validation_{record.metric}"] == record.value

    # The artifacts that `fit` makes of the same ticket and the same base model have these names and contents.
    ticket = ticket_of(world, "wikiann", "aa", 0.5)
    fingerprint = ticket.provenance.base_fingerprint
    made = (ticket_artifact(ticket), base_artifact(str(world / "model"), fingerprint, RunFolder(tmp_path / "other")))
    used = {name: value["digest"] for name, value in files[0].used.items()}
    assert used == {artifact.name: artifact.digest for artifact in made}
    assert json.loads(files[0].used[made[0].name]["metadata"])["checksum"] == ticket.checksum
    assert not any(file.made for file in files)
