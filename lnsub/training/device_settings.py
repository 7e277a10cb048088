"""Settings of torch for the device that a run is on."""

import logging

import torch
from lightning.pytorch import Trainer

log = logging.getLogger(__name__)


def use_tensor_cores(trainer: Trainer) -> None:
    """Lets float32 runs on a GPU multiply matrices in TF32, as torch does not by default.

    TF32, which tensor cores multiply, rounds the factors to 10 bits of mantissa, more than the 7 of bfloat16, and adds
    in float32. A precision that was set in this process before stays as it is. Nothing changes for a run on a CPU or in
    another precision.

    Args:
        trainer: the run's.
    """
    if trainer.strategy.root_device.type != "cuda" or trainer.precision != "32-true":
        return
    if torch.backends.cuda.matmul.fp32_precision != "none":  # what it is until somebody sets it, by whichever way
        return
    torch.set_float32_matmul_precision("high")
    log.info(
        "float32 matrix products run in TF32 on the GPU: set NVIDIA_TF32_OVERRIDE=0 in the environment to have full"
        " float32."
    )
