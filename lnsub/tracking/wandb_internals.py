"""The private names of wandb-workspaces that lnsub uses, and why.

A workspace turns into the JSON that W&B stores only inside ``Workspace.save()``, which needs an API key and the site.
No public method returns that JSON, which a preview shows.
"""

from typing import Any


def workspace_spec(workspace: Any) -> dict[str, Any]:
    """What ``workspace.save()`` would send as the view's specification.

    Args:
        workspace: a ``wandb_workspaces.workspaces.Workspace``.
    """
    spec: dict[str, Any] = workspace._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return spec
