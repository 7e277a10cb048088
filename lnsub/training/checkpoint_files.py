"""Checkpoint files: written straight to their place and onto the disk, and checked before a run is resumed from one."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lnsub.common.files import writing
from lnsub.training.lightning_internals import is_launched_rank


class DurableIO(TorchCheckpointIO):
    """Writes straight to the path and waits for the disk. Lightning's goes by way of the temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; raises UserError where it cannot be written."""
        with writing(Path(path)) as file:
            torch.save(checkpoint, file)


class DamagedError(Exception):
    """A checkpoint that is not as it was written; the message is the reason."""


def is_resumable(path: Path) -> bool:
    """Whether a run can be resumed from a checkpoint; False for one of weights alone. Raises DamagedError."""
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
