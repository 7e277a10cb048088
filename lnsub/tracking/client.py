"""Starting W&B's client: online, offline or not at all, but never with a prompt and never with an error."""

import logging
import os
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.runs.folder import RunFolder

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled", "shared"]
_MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "shared": "shared",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


def wanted_mode() -> Mode:
    """What ``WANDB_MODE`` asks for; online where it is not set.

    Raises:
        UserError: W&B has no such mode.
    """
    named = os.environ.get("WANDB_MODE") or "online"
    if named not in _MODES:
        raise UserError(f"WANDB_MODE is '{named}'; it takes online, offline or disabled.")
    return _MODES[named]


def possible_mode() -> Mode:
    """:func:`wanted_mode`, but offline without a working API key, which is logged; never prompts.

    Raises:
        UserError: as :func:`wanted_mode`.
    """
    wanted = wanted_mode()
    if wanted != "online":
        return wanted
    import wandb

    try:
        if wandb.login(prompt=False, verify=False):
            return wanted
        log.info("No W&B API key: logging offline; send it later with `wandb sync`, or set WANDB_API_KEY.")
    except Exception as error:  # a key of the wrong length, a malformed netrc file, ...
        log.info(f"The W&B login does not work: logging offline ({user_message(error)}).")
    return "offline"


def run_id(folder: RunFolder) -> str:
    """The id of this folder's run on W&B, which the folder keeps; made on first use.

    Call it only on the process of global rank 0, and once that is known: before a launcher has set the ranks, each node
    has a process that takes itself for the first.
    """
    path = folder.path / "wandb" / "run-id"
    if not path.exists():
        with replacing(path) as file:
            file.write(secrets.token_hex(4).encode())
    return path.read_text(encoding="utf-8").strip()


def start(options: Mapping[str, Any]) -> Any:
    """Starts a W&B run, or resumes the one with the same id.

    Args:
        options: of ``wandb.init``, without the mode.

    Returns:
        The run: offline where the server cannot be reached, disabled where that fails too; a warning says so.
    """
    import wandb

    mode = possible_mode()
    for attempt in dict.fromkeys((mode, "offline")) if mode != "disabled" else ():
        try:
            return wandb.init(**options, mode=attempt, resume="allow", reinit="finish_previous")
        except Exception as error:  # a server that is down, a full disk, ...
            instead = "it is not logged there" if attempt == "offline" else "it is logged offline"
            log.warning(f"W&B cannot log this run {attempt}, so {instead} ({user_message(error)}).")
            wandb.teardown()  # its service still holds the run's id
    return wandb.init(mode="disabled")


def user_message(error: BaseException) -> str:
    """An error's message on one line, to stand inside a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
