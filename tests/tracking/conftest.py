"""A run's logger, made as `lnsub fit` makes it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lnsub.runs.folder import RunFolder
from lnsub.tracking.logger import RunCard, RunWandbLogger, wandb_logger
from lnsub.training.config import WandbSettings

CARD = RunCard("xnli/fr/seed57", "imp", "xnli", ("xnli", "fr"), {"task": "xnli", "language": "fr"})


@pytest.fixture
def start_run(tmp_path: Path) -> Callable[[], RunWandbLogger]:
    """Makes the logger of the run in ``tmp_path / "run"``, anew at each call, as each start of the run does."""

    def make() -> RunWandbLogger:
        settings = WandbSettings(project="study", tags=["pilot"])
        return wandb_logger(CARD, settings, RunFolder(tmp_path / "run"), {"model": {"seed": 1}})

    return make
