"""A snapshot of a model's weights on a GPU."""

import torch
from torch.distributed.tensor import DTensor

from lnsub.models.subnet import Weights

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
