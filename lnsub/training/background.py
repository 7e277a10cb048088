"""Checkpoints written in the background: copied on the training thread, written and synced on one of its own.

Training may change the weights as soon as they are copied, so it waits for the copy and not for the disk. Until it is
written, the copy takes the memory of one checkpoint on the host.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor, UntypedStorage

from lnsub.runs.folder import RunFolder
from lnsub.training.checkpoint_files import partial_of, rotate, write_checkpoint

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes a run's checkpoints one at a time, each on a thread that ends with the write.

    A process that ends waits for the thread; one that is killed leaves a ``.partial``, which the next one removes.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._write: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._write is not None and not self._write.done()

    def start(self, checkpoint: dict[str, Any], *, copied: bool = False) -> None:
        """Copies a checkpoint and starts to write it, after the one before.

        Args:
            checkpoint: what is to be written.
            copied: nothing of it changes until it is written, so that it need not be copied.

        Raises:
            UserError: the one before could not be written.
        """
        self.wait()  # before the copy, so that there is one at a time in memory
        pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write = pool.submit(self._write_and_rotate, checkpoint if copied else host_copy(checkpoint))
        pool.shutdown(wait=False)  # the thread ends once it has written

    def check(self) -> None:
        """Raises the UserError of a write that has failed; waits for none."""
        if not self.busy:
            self.wait()

    def wait(self) -> None:
        """Waits until the checkpoint that is being written is durable.

        Raises:
            UserError: it could not be written, for example because the disk is full. Earlier ones are untouched.
        """
        if self.busy:
            log.debug("Waiting for a checkpoint to be written.")
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def _write_and_rotate(self, checkpoint: dict[str, Any]) -> None:
        write_checkpoint(checkpoint, partial_of(self.folder))
        rotate(self.folder)


class DurableIO(TorchCheckpointIO):
    """Hands a run's checkpoints to a writer; writes those of other callbacks at once.

    All are written in place and synced to disk: Lightning's default goes through the temporary folder.

    Args:
        writer: of the run.
        wait: let training wait until a checkpoint is written, for lack of memory for a copy.
    """

    def __init__(self, writer: CheckpointWriter, *, wait: bool = False) -> None:
        super().__init__()
        self._writer = writer
        self._wait = wait

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves a checkpoint; raises UserError where it, or the one before it, cannot be written."""
        if Path(path) == partial_of(self._writer.folder):
            self._writer.start(checkpoint, copied=self._wait)
            if self._wait:
                self._writer.wait()
        else:
            write_checkpoint(checkpoint, Path(path))


def host_copy(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Copies a checkpoint into the host's memory, each storage once: what shares one, as tied weights do, still does.

    The memory is pageable. What is pinned would be copied faster from a GPU, but torch never returns it.
    """
    storages: dict[tuple[torch.device, int], UntypedStorage] = {}
    copies: dict[int, Any] = {}  # by the tensor's id, as deepcopy's memo has them
    for tensor in _tensors(checkpoint):
        storage = tensor.untyped_storage()
        key = (storage.device, storage.data_ptr())
        if key not in storages:
            storages[key] = storage.clone() if storage.device.type == "cpu" else storage.cpu()
        there = torch.empty(0, dtype=tensor.dtype)
        copies[id(tensor)] = there.set_(storages[key], tensor.storage_offset(), tensor.size(), tensor.stride())
    return copy.deepcopy(checkpoint, copies)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The plain tensors in dictionaries, lists and tuples; others are left to deepcopy."""
    if type(value) is Tensor and value.layout is torch.strided:
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
