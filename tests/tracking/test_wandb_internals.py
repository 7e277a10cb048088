"""The private names of wandb-workspaces that lnsub uses: these tests fail when one moves."""

import json

from wandb_workspaces import workspaces as ws

from lnsub.tracking.wandb_internals import workspace_spec
from tests.support.wandb_server import WandbServer


def test_the_specification_is_what_saving_sends(wandb_client):
    workspace = ws.Workspace(entity="team", project="study", name="view", sections=[ws.Section(name="a", is_open=True)])
    spec = workspace_spec(workspace)
    assert [section["name"] for section in spec["section"]["panelBankConfig"]["sections"]] == ["a"]
    with WandbServer() as server:
        for name, value in server.environment().items():
            wandb_client.setenv(name, value)
        workspace.save()
        (view,) = server.views.values()
    assert spec.keys() == json.loads(view["spec"]).keys()
