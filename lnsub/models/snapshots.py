"""Weights outside a live model: a snapshot on a GPU, and a sharded model's in one piece."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from lnsub.models.subnet import Weights
from lnsub.pruning.sharding import whole

_SHARE = 4
"""A snapshot takes less than one part in so many of a GPU's free memory, or stays on the host."""


def on_gpu(weights: Weights, device: torch.device) -> Weights:
    """Copies a snapshot to a GPU, so that a rewind copies nothing from the host.

    Args:
        weights: the snapshot, on the host.
        device: the model's.

    Returns:
        The copy, with one tensor for names that share theirs; the snapshot itself where the device is no GPU or has
        too little free memory, or the weights are sharded.
    """
    if device.type != "cuda" or any(isinstance(tensor, DTensor) for tensor in weights.values()):
        return weights
    distinct = {id(tensor): tensor for tensor in weights.values()}
    free, _ = torch.cuda.mem_get_info(device)
    if sum(tensor.nbytes for tensor in distinct.values()) * _SHARE >= free:
        return weights
    copies = {key: tensor.to(device) for key, tensor in distinct.items()}
    return {name: copies[id(tensor)] for name, tensor in weights.items()}


def gathered(weights: Weights) -> Weights:
    """Gathers a sharded model's snapshot, for a file; all ranks call it together.

    Returns:
        The whole weights, on the CPU; on ranks other than 0, which write no files, without those that are sharded.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        rows = whole(tensor)
        if rows is tensor or dist.get_rank() == 0:
            found[name] = rows
    return found
