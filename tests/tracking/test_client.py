"""How W&B's client is started: in which mode, under which id, and what becomes of failures."""

import pytest

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.tracking.client import possible_mode, run_id, start, wanted_mode


@pytest.mark.parametrize("mode", [None, "online"])
def test_without_a_key_the_mode_is_offline_and_one_line_says_so(mode, wandb_client, caplog):
    caplog.set_level("INFO", logger="lnsub")
    wandb_client.delenv("WANDB_MODE")
    if mode:
        wandb_client.setenv("WANDB_MODE", mode)
    assert possible_mode() == "offline"
    (record,) = caplog.records
    assert "offline" in record.message
    assert "WANDB_API_KEY" in record.message


def test_a_malformed_key_leaves_the_run_offline(wandb_client, caplog):
    caplog.set_level("INFO", logger="lnsub")
    wandb_client.setenv("WANDB_MODE", "online")
    wandb_client.setenv("WANDB_API_KEY", "short")
    assert possible_mode() == "offline"
    (record,) = caplog.records
    assert "\n" not in record.message


@pytest.mark.parametrize(("named", "mode"), [("dryrun", "offline"), ("disabled", "disabled"), ("", "online")])
def test_the_environment_names_the_mode(named, mode, wandb_client):
    wandb_client.setenv("WANDB_MODE", named)
    assert wanted_mode() == mode


def test_an_unknown_mode_is_refused(wandb_client):
    wandb_client.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match=r"WANDB_MODE.*ofline"):
        wanted_mode()


def test_a_folder_keeps_its_id_and_has_one_of_its_own(tmp_path):
    first = run_id(RunFolder(tmp_path / "a"))
    assert run_id(RunFolder(tmp_path / "a")) == first == (tmp_path / "a" / "wandb" / "run-id").read_text()
    assert run_id(RunFolder(tmp_path / "b")) != first
    assert [path.name for path in (tmp_path / "a" / "wandb").iterdir()] == ["run-id"]


def test_a_run_that_cannot_be_started_at_all_is_disabled(wandb_client, tmp_path, caplog):
    run = start({"project": "no/such:project", "dir": tmp_path})
    assert run.disabled
    assert "offline" in caplog.text
