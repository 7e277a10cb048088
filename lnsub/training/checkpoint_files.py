"""Checkpoint files: written in place and synced to disk, and verified before a run is resumed from one."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lnsub.common.files import writing
from lnsub.training.lightning_internals import is_launched_rank


class DurableIO(TorchCheckpointIO):
    """Writes directly to the path and syncs to disk. Lightning's default goes through the temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; raises UserError where it cannot be written."""
        with writing(Path(path)) as file:
            torch.save(checkpoint, file)


class DamagedError(Exception):
    """The checkpoint is corrupt; the message says why."""


def is_resumable(path: Path) -> bool:
    """Whether a run can be resumed from a checkpoint; False for a weights-only one. Raises DamagedError."""
    try:
        if not is_launched_rank():
            with zipfile.ZipFile(path) as file:
                part = file.testzip()
            if part is not None:
                raise DamagedError(f"the checksum of {part} is wrong")
        return "callbacks" in torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
