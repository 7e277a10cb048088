"""Logging of the training commands."""

import logging
import warnings
from functools import lru_cache

from rich.console import Console
from rich.logging import RichHandler

from lnsub.common.launcher import is_first_process

log = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def warn_once(message: str) -> None:
    """Warns in the first round, and not in all those that find the same."""
    log.warning(message)


def set_up_logging() -> None:
    """Shows lnsub's log messages, on the first process only, and hides routine messages of libraries."""
    own = logging.getLogger("lnsub")
    own.setLevel(logging.INFO if is_first_process() else logging.WARNING)
    if not own.handlers:
        handler = RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
        own.addHandler(handler)
        own.propagate = False
    for name in ("lightning.pytorch", "lightning.fabric", "datasets", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR if name == "transformers" else logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # torchmetrics reduces metrics over ranks before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*is deprecated, use `isinstance.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
