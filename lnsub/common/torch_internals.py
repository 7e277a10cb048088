"""Every use of torch's private API; each function names the public API that is missing."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copies each source into its target, on a GPU in a single launch.

    torch's operations on lists of tensors, which its optimizers use, are all private.
    """
    torch._foreach_copy_(list(targets), list(sources))


def multiply_all(targets: Sequence[Tensor], factors: Sequence[Tensor]) -> None:
    """Multiplies each target by its factor, in place; on a GPU in few launches where both have one dtype.

    As for :func:`copy_all`.
    """
    torch._foreach_mul_(list(targets), list(factors))


def largest(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Computes the largest absolute value of each tensor, on a GPU in few launches; NaN if a tensor contains NaN.

    As for :func:`copy_all`; the public ``nn.utils.get_total_norm`` returns a single number for all tensors.
    """
    return list(torch._foreach_norm(list(tensors), torch.inf))


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int, dropout: float, scale: float | None
) -> Tensor:
    """Flash attention over concatenated sequences, with dropout.

    The public ``torch.nn.attention.varlen.varlen_attn`` calls the same operation with dropout fixed at 0.

    Args:
        q: [tokens, heads, width of a head].
        k: the same.
        v: the same.
        starts: start of each sequence and end of the last: int32 [sequences + 1].
        longest: an upper bound on sequence length.
        dropout: dropout probability of attention weights.
        scale: factor of the scores; None: 1 / sqrt(width of a head).

    Returns:
        [tokens, heads, width of a head].
    """
    where = (starts, starts, longest, longest)
    return torch.ops.aten._flash_attention_forward(q, k, v, *where, dropout, False, False, scale=scale)[0]


def exclude_from_ddp_broadcasts(module: nn.Module, buffers: Iterable[str]) -> None:
    """Excludes buffers of a module from broadcasts by any DistributedDataParallel that wraps it.

    The public argument ``broadcast_buffers`` applies to all buffers, and to one wrapper, which the user's strategy
    creates.
    """
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(buffers))


def disable_duck_shapes() -> None:
    """Makes torch.compile use distinct symbols for sizes that happen to be equal in the first batch.

    The public API only marks dimensions of single tensors as dynamic, which does not prevent this.
    """
    from torch.fx.experimental import _config

    _config.use_duck_shape = False


def has_triton() -> bool:
    """Whether the compiler that torch.compile needs is installed and supports this GPU.

    Otherwise torch fails only at the first step.
    """
    from torch.utils._triton import has_triton

    return has_triton()


def cpp_compilers() -> list[str]:
    """The C++ compilers that torch.compile looks for on a CPU: ``CXX``, or its default.

    Without one, torch fails only at the first step.
    """
    from torch._inductor import config

    return [name for name in config.cpp.cxx if name]
