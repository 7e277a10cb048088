"""What one process that runs many cells, one after another, does to keep them quiet and quick."""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Keeps what is said for each cell off the screen, W&B's summary included: a cell has one line of its own."""
    remarks = logging.getLogger("lnsub.training.module")
    level = remarks.level
    remarks.setLevel(logging.WARNING)
    before = os.environ.get("WANDB_SILENT")
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        yield
    finally:
        remarks.setLevel(level)
        if before is None:
            del os.environ["WANDB_SILENT"]


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Lets the garbage collection after each cell skip all that was imported before, which takes it a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
