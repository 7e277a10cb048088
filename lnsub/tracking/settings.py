"""Where and as what a run is logged to W&B: settings, the run's card, its id, and whether there is a server to ask."""

import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning.fabric.utilities.rank_zero import rank_zero_only

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder

log = logging.getLogger(__name__)


@dataclass
class WandbSettings:
    """Where on Weights & Biases a run is logged.

    Attributes:
        project: the project.
        entity: the team or user; None: your default.
        group: the group that runs are compared in; None: the task's name.
        tags: tags of the run.
    """

    project: str = "lnsub"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunCard:
    """What a run is, for people and for the filters of a dashboard.

    Attributes:
        name: its name.
        job_type: what it does: ``imp``, ``dense``, ``transfer``, ``zero_shot``.
        group: the group that it is in unless the settings name one.
        tags: its tags, beside those of the settings.
        facts: shown at the top of its configuration: task, language, seed, ...
    """

    name: str
    job_type: str
    group: str
    tags: tuple[str, ...]
    facts: Mapping[str, Any]


Mode = Literal["online", "offline", "disabled", "shared"]
_MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "shared": "shared",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


def mode() -> Mode:
    """How to log: as ``WANDB_MODE`` says, but offline where there is no API key, which is said once; never asks.

    Raises:
        UserError: ``WANDB_MODE`` is none that W&B knows.
    """
    named = os.environ.get("WANDB_MODE") or "online"
    if named not in _MODES:
        raise UserError(f"WANDB_MODE is '{named}'; it takes online, offline or disabled.")
    wanted = _MODES[named]
    if wanted != "online":
        return wanted
    import wandb

    try:
        if wandb.login(prompt=False, verify=False):
            return wanted
        _say_offline("No W&B API key: logging offline; send it later with `wandb sync`, or set WANDB_API_KEY.")
    except Exception as error:  # a key of the wrong length, a netrc file that is none, ...
        _say_offline(f"The W&B login does not work: logging offline ({first_line(error)}).")
    return "offline"


@rank_zero_only
def _say_offline(line: str) -> None:
    log.info(line)


def first_line(error: BaseException) -> str:
    """An error's first line, for the middle of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def run_id(folder: RunFolder) -> str | None:
    """The id under which this folder's run is known to W&B; None on all processes but the first, which never log."""
    if rank_zero_only.rank > 0:
        return None
    path = folder.path / "wandb" / "run-id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        part.write_text(secrets.token_hex(4), encoding="utf-8")
        try:
            path.hardlink_to(part)
        except FileExistsError:  # the first process of another node was faster: its id counts
            pass
        except OSError:  # a file system without links
            part.replace(path)
        part.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()
