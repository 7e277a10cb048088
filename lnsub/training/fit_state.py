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
from lnsub.training.module import SubnetModule


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
