"""Checkpoint files: written in place and synced to disk, and read without running anything they may hold.

No file is trusted. One is read by ``torch.load`` with ``weights_only=True``, which makes tensors and plain values and
calls no code, and only from this machine: Lightning would fetch one from a URL, and unpickle it.
"""

import logging
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from lnsub.common.errors import UserError
from lnsub.common.files import sync_folder, write_errors, writing
from lnsub.common.launcher import is_first_process
from lnsub.models.vocabulary import unnarrowed, whole_shapes
from lnsub.runs.folder import RunFolder
from lnsub.training.lightning_internals import is_launched_rank

log = logging.getLogger(__name__)

_ALWAYS = {
    "state_dict": dict,
    "loops": dict,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}
_TO_RESUME = {"callbacks": dict, "optimizer_states": list, "lr_schedulers": list}
_OWN = "lnsub"
_OWN_KEYS = {"random", "rows", "seconds", "begun_with", "position", "row"}


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint in place and syncs it to disk.

    torch needs the interpreter's lock only between the tensors, so other threads go on meanwhile.

    Raises:
        UserError: it cannot be written; nothing of it is left.
    """
    with writing(path) as file:
        torch.save(checkpoint, file)


def partial_of(folder: RunFolder) -> Path:
    """Where a run's next checkpoint is written, before it becomes its last one."""
    return folder.checkpoint.with_suffix(".partial")


def rotate(folder: RunFolder) -> None:
    """Makes the checkpoint that was written a run's last one, and keeps the one before as a fallback.

    A crash at any moment leaves at least one of them intact.

    Raises:
        UserError: the folder cannot be changed.
    """
    with write_errors(folder.checkpoint):
        if folder.checkpoint.exists():
            folder.checkpoint.replace(folder.previous_checkpoint)
        partial_of(folder).replace(folder.checkpoint)
        sync_folder(folder.checkpoint.parent)


class DamagedError(Exception):
    """The checkpoint is corrupt; the message says why."""


def is_resumable(path: Path) -> bool:
    """Whether a run can be resumed from a checkpoint; False for a weights-only one.

    Every rank reads all of the file and compares its checksums, except for those that the first rank starts after it
    has done so.

    Raises:
        DamagedError: it is damaged.
    """
    return "callbacks" in read_checkpoint(path, thoroughly=not is_launched_rank())


def newest_of(folder: RunFolder) -> Path | None:
    """The newest intact checkpoint of a run to resume from, or None.

    Damaged ones are skipped with a warning and renamed. All ranks find the same: each reads all of a file, except for
    those that the first rank starts after it has done so.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    damaged: dict[Path, str] = {}
    for path in (folder.checkpoint, folder.previous_checkpoint):
        try:
            if not path.exists() or not is_resumable(path):
                continue
        except DamagedError as error:
            damaged[path] = str(error)
            continue
        for other, reason in damaged.items():
            if is_first_process():
                log.warning(f"{other} is damaged ({reason}); resuming from the one before it, {path.name}.")
                other.replace(other.with_name(f"{other.name}.damaged"))
        return path
    if damaged:
        raise UserError(
            f"{next(iter(damaged))} cannot be read ({next(iter(damaged.values()))}), and there is no good one "
            f"before it; delete {folder.checkpoint.parent} to start this run again."
        )
    return None


def read_checkpoint(path: Path, *, thoroughly: bool = True) -> dict[str, Any]:
    """Reads a checkpoint; its tensors stay on the disk until they are used.

    Args:
        path: the file.
        thoroughly: compare the checksums of all of it.

    Raises:
        DamagedError: it is damaged, lacks something, or is no checkpoint at all.
    """
    if not path.is_file():
        raise DamagedError("it is not a regular file")
    try:
        if thoroughly:
            _compare_checksums(path)
        contents = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except DamagedError:
        raise
    except pickle.UnpicklingError as error:
        raise DamagedError("it holds other things than tensors and plain values") from error
    except Exception as error:  # what a parser trips over is of any kind: zlib's, struct's, pickle's errors
        first = " ".join((str(error).splitlines() or [""])[0].split())[:100]
        raise DamagedError(f"{type(error).__name__}: {first}" if first else type(error).__name__) from error
    _check(contents)
    return contents


def _compare_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        for part in file.infolist():
            # torch writes neither. Unpacking might never end, and what is marked as a folder it reads as any values.
            if part.compress_type != zipfile.ZIP_STORED or part.external_attr:
                raise DamagedError(f"the entry of {part.filename} in its directory is wrong")
        if (odd := file.testzip()) is not None:
            raise DamagedError(f"the checksum of {odd} is wrong")


def _check(contents: Any) -> None:
    """Raises DamagedError where a part is missing or is not of its type."""
    if not isinstance(contents, dict):
        raise DamagedError("it is no checkpoint")
    full = _ALWAYS | (_TO_RESUME if _TO_RESUME.keys() & contents.keys() else {})
    for name, kind in full.items():
        if name not in contents:
            raise DamagedError(f"it has no {name}")
        if not isinstance(contents[name], kind):
            raise DamagedError(f"its {name} is no {kind.__name__}")
    if not all(isinstance(name, str) and isinstance(x, Tensor) for name, x in contents["state_dict"].items()):
        raise DamagedError("its state_dict holds other things than tensors")
    if not isinstance(contents["loops"].get("fit_loop"), dict):
        raise DamagedError("its loops have no fit_loop")
    own = contents.get(_OWN)  # not in those of a version that saved between rounds only, nor in one of weights alone
    if own is None:
        return
    if not (isinstance(own, dict) and own.keys() >= _OWN_KEYS and own["random"] and isinstance(own["random"], list)):
        raise DamagedError(f"its part {_OWN} is incomplete")
    amid = own["position"] is not None
    if empty := next((name for name in ("optimizer_states", "lr_schedulers") if amid and not contents.get(name)), None):
        raise DamagedError(f"its {empty} are empty")


@contextmanager
def explaining(path: Path, applies: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turns what a whole checkpoint with unusable contents leads to into a :class:`UserError` that names the file.

    Args:
        path: the checkpoint whose contents are used inside.
        applies: whether an error is of that, asked when there is one.
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if not applies():
            raise
        raise UserError(
            f"{path} cannot be resumed from ({type(error).__name__}: {error}): move it away to resume from the one "
            f"before it, or delete {path.parent} to start this run again."
        ) from error


def misfit(weights: Mapping[str, Tensor], module: Module) -> str | None:
    """What keeps a checkpoint's weights from being a model's; None where they have its names and shapes."""
    here = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    there = whole_shapes(weights, here)
    if missing := sorted(here.keys() - there.keys()):
        return f"it lacks {len(missing)} of the model's {len(here)} tensors, for example {missing[0]}"
    if more := sorted(there.keys() - here.keys()):
        return f"it has {len(more)} tensors that the model has not, for example {more[0]}"
    if odd := next((name for name, shape in here.items() if there[name] != shape), None):
        return f"its {odd} has the shape {there[odd]}, the model's {here[odd]}"
    return None


def refuse_others(folder: RunFolder) -> None:
    """Raises UserError where a run's folder holds a checkpoint that Lightning would load by itself, under SLURM."""
    other = next(folder.path.glob("hpc_ckpt_*.ckpt"), None)
    if other is not None:
        raise UserError(f"{other} is not lnsub's, and under SLURM it would be loaded instead: move it away.")


def load_weights(path: str, module: Module, option: str = "--ckpt_path") -> None:
    """Puts the weights and masks of a checkpoint file into a model; nothing else of it is used.

    Args:
        path: a file on this machine, of a run or of weights alone.
        module: what was trained, as it is before a trainer has it.
        option: the option that names the file, for messages.

    Raises:
        UserError: there is no such file, it is no whole checkpoint, or it is another model's.
    """
    if "://" in path:
        raise UserError(f"{option} takes a file on this machine, not {path}: download it first.")
    if not Path(path).is_file():
        raise UserError(f"{option}: there is no file {path!r}; a run's is <run folder>/checkpoints/last.ckpt.")
    try:
        weights = read_checkpoint(Path(path))["state_dict"]
    except DamagedError as error:
        raise UserError(f"{option}: {path} is no whole checkpoint of lnsub: {error}.") from error
    if why := misfit(weights, module):
        raise UserError(f"{option}: {path} is not of this model: {why}. Give the --config of its run.")
    module.load_state_dict(unnarrowed(weights, module.state_dict()))
