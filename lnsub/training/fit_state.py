"""The state of a fit that Lightning does not save, or not precisely enough for exact resumption.

:mod:`lnsub.training.checkpoints` decides when it is saved and restored.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel

from lnsub.data.loaders import ResumableLoader
from lnsub.training.callbacks import log_row
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.lightning_internals import epoch_is_over, is_between_steps, pending_log_row, validation_is_due
from lnsub.training.module import SubnetModule
from lnsub.training.ranks import gathered


def is_savable(trainer: Trainer) -> bool:
    """Whether a checkpoint taken now, in ``on_train_batch_end``, can be resumed from exactly.

    It cannot while gradients are accumulated, after the last step of a fit limited by steps, or at the end of an epoch
    without validation. The answer is the same on all ranks.
    """
    if not is_between_steps(trainer) or trainer.global_step == trainer.max_steps:
        return False
    return validation_is_due(trainer) or not epoch_is_over(trainer)


def state_of_fit(trainer: Trainer, module: LightningModule, seconds: float) -> dict[str, Any]:
    """What a checkpoint holds beside Lightning's state, of a fit or of what is between two. A collective operation.

    Args:
        trainer: the run's trainer.
        module: the model.
        seconds: the duration of the fit so far.
    """
    in_fit = trainer.training
    csv = next((logger for logger in trainer.loggers if isinstance(logger, RunCSVLogger)), None)
    return {
        "random": gathered(trainer, random_states(trainer)),
        "rows": csv.rows if csv and trainer.is_global_zero else None,
        "seconds": seconds if in_fit else 0.0,
        "begun_with": started_from(module),
        "position": train_loader(trainer).state_dict() if in_fit else None,
        "row": pending_log_row(trainer) if in_fit else None,
    }


def restore_fit(state: dict[str, Any], trainer: Trainer, module: LightningModule) -> None:
    """Restores the state of :func:`state_of_fit`; call it in ``on_train_start``."""
    if state["position"] is not None:
        rebuild_ddp_buckets(trainer, module)
        # Lightning does this when it creates the loader, but the schedule's length needs the loader earlier.
        train_loader(trainer).load_state_dict(state["position"])
    set_random_states(trainer, state["random"][trainer.global_rank % len(state["random"])])
    if state["row"] is not None:
        log_row(trainer, *state["row"])


def started_from(module: LightningModule) -> dict[str, str | None]:
    """Checksums of the files that a fit starts from."""
    assert isinstance(module, SubnetModule)
    return {"base model": module.fingerprint, "ticket": module.ticket.checksum if module.ticket else None}


def train_loader(trainer: Trainer) -> ResumableLoader:
    """The loader of the current fit."""
    loader = trainer.train_dataloader
    assert isinstance(loader, ResumableLoader)
    return loader


def rebuild_ddp_buckets(trainer: Trainer, module: LightningModule) -> None:
    """Makes DDP rebuild its gradient buckets, by a backward pass whose gradients are discarded.

    DDP rebuilds them after the first backward pass of a fit, in the order in which gradients become ready. With more
    than two ranks, the summation order of a gradient depends on the bucket layout.
    """
    model = trainer.strategy.model
    if not isinstance(model, DistributedDataParallel):
        return
    assert isinstance(module, SubnetModule)
    loader = train_loader(trainer)
    batch = trainer.strategy.batch_to_device(loader.dataset[next(iter(loader.sampler))])
    with trainer.precision_plugin.forward_context():
        module.task.loss(model(batch), batch["labels"]).backward()
    module.zero_grad(set_to_none=True)


def random_states(trainer: Trainer) -> dict[str, Any]:
    """This process's random number generator states, as types that ``torch.load(weights_only=True)`` accepts."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (libraries may use it)
    device = trainer.strategy.root_device
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "python": random.getstate(),
    }


def set_random_states(trainer: Trainer, states: dict[str, Any]) -> None:
    """Restores the states of :func:`random_states`; raises ValueError for states of another kind."""
    try:
        torch.set_rng_state(states["torch"])
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    device = trainer.strategy.root_device
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(states["python"])
