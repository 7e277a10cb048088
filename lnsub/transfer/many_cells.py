"""Logging and garbage collection for a process that runs many cells."""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Hides per-cell log messages and W&B's summary: each cell has one line of progress."""
    logger = logging.getLogger("lnsub.training.module")
    level = logger.level
    logger.setLevel(logging.WARNING)
    before = os.environ.get("WANDB_SILENT")
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["WANDB_SILENT"]


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Excludes existing objects, such as imported modules, from garbage collection, saving a second per cell."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
