"""torch.compile for training: one compilation serves every batch of every round.

What would make torch compile again, and why it does not: batches of other widths or with fewer rows (every size is
symbolic from the first compilation on), the next round (masks are buffers that the forward pass never reads, weights
are changed in place, the mode is training with the same autocast), validation between epochs (it runs uncompiled), and
another model of the same shape in the same process (torch keeps compiled code by what the code depends on, not by
object). A batch of a single row is the one exception: torch treats a size of 1 separately, once.
"""

import shutil
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import nn

from lnsub.common.errors import UserError
from lnsub.common.torch_internals import cpp_compilers, disable_duck_shapes, has_triton

Mode = Literal["default", "reduce-overhead", "max-autotune"]
"""``torch.compile``'s own names: fused kernels; the same replayed as CUDA graphs, one for each shape of batch;
that, with kernels chosen by timing several."""

_CUDA_GRAPHS = get_args(Mode)[1:]


def compile_for_training(model: nn.Module, mode: Mode, backend: str | Callable[..., Any] = "inductor") -> None:
    """Makes a model's calls run compiled, in place: names of parameters and checkpoints stay as they are.

    Nothing is compiled before the first call.

    Args:
        model: a Hugging Face model, called with keyword tensors.
        mode: how much torch is to do; see :data:`Mode`.
        backend: torch's name of a compiler, or one itself.
    """
    # Sizes that happen to be equal in the first batch (32 rows of 32 tokens) would count as one from then on, and the
    # second batch would be compiled again.
    disable_duck_shapes()
    model.compile(mode=mode, backend=backend, dynamic=True)


def uses_cuda_graphs(mode: Mode) -> bool:
    """Whether torch.compile records CUDA graphs in this mode, one of the forward and one of the backward pass."""
    return mode in _CUDA_GRAPHS


def check_can_compile(
    mode: Mode, device: torch.device, *, packed: bool = False, sharded: bool = False, accumulated: int = 1
) -> None:
    """Refuses what would fail at the first step or later, or compile over and over.

    Args:
        mode: as for :func:`compile_for_training`.
        device: where the model trains.
        packed: whether its sequences are packed (``model.attention: packed``).
        sharded: whether it is sharded over processes (``trainer.strategy: sharded``).
        accumulated: batches whose gradients are summed before an optimizer step.

    Raises:
        UserError: what torch compiles with is missing; or CUDA graphs would be used with accumulated gradients, which
            the next replay overwrites (https://github.com/pytorch/pytorch/issues/169545), or with packed batches, no
            two of which have one shape; or packed batches on the CPU, where attention goes by their lengths; or
            a sharded model, whose weights are gathered block by block, so that torch would compile each block anew.
    """
    graphs = uses_cuda_graphs(mode)
    if sharded:
        raise UserError("model.compile cannot be used with trainer.strategy=sharded: drop one of them.")
    if graphs and accumulated > 1:
        raise UserError(
            f"`model.compile: {mode}` uses CUDA graphs, which cannot accumulate gradients: set "
            "trainer.accumulate_grad_batches to 1, or model.compile to default."
        )
    if packed and (graphs or device.type == "cpu"):
        where = f"with `model.compile: {mode}`, which records every shape of batch" if graphs else "compiled on the CPU"
        raise UserError(f"`model.attention: packed` cannot be used {where}: set it to sdpa, or drop model.compile.")
    if device.type == "cuda":
        if not has_triton():
            raise UserError(
                "model.compile needs the package triton on a GPU, and it is missing or does not support this one: "
                "install it, or leave model.compile out."
            )
        return
    names = cpp_compilers()
    if not any(shutil.which(name) for name in names):
        raise UserError(
            f"model.compile needs a C++ compiler on the CPU, and there is no {' or '.join(names)} here: install one, "
            "name yours in the environment variable CXX, or leave model.compile out."
        )
