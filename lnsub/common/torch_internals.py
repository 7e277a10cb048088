"""What lnsub takes from torch that has no public name; each function says which public way is missing."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copies each source into its target, on a GPU in one launch for all.

    torch's operations on lists of tensors, which its own optimizers are built of, all start with an underscore.
    """
    torch._foreach_copy_(list(targets), list(sources))


def largest(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Computes the largest absolute value of each tensor, on a GPU in few launches; NaN where one holds NaN.

    As for :func:`copy_all`: the public ``nn.utils.get_total_norm`` gives one number for all of them.
    """
    return list(torch._foreach_norm(list(tensors), torch.inf))


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int, dropout: float, scale: float | None
) -> Tensor:
    """Flash attention over sequences that lie end to end, with dropout.

    The public ``torch.nn.attention.varlen.varlen_attn`` calls the same operation, with the dropout fixed at 0.

    Args:
        q: [tokens, heads, width of a head].
        k: the same.
        v: the same.
        starts: where each sequence starts, and where the last ends: int32 [sequences + 1].
        longest: the length of the longest sequence, or more.
        dropout: share of the attention weights to drop.
        scale: factor of the scores; None: 1 / sqrt(width of a head).

    Returns:
        [tokens, heads, width of a head].
    """
    where = (starts, starts, longest, longest)
    return torch.ops.aten._flash_attention_forward(q, k, v, *where, dropout, False, False, scale=scale)[0]


def exclude_from_ddp_broadcasts(module: nn.Module, buffers: Iterable[str]) -> None:
    """Makes DistributedDataParallel leave some of a module's buffers alone, whoever wraps the module in it.

    Its public argument ``broadcast_buffers`` holds for one wrapper, which the user's choice of a strategy makes, and
    for all buffers.
    """
    nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(buffers))


def disable_duck_shapes() -> None:
    """Makes torch.compile treat two sizes as two even where the first batch has them equal.

    Public are only marks on the dimensions of single tensors, and these do not keep equal sizes from becoming one.
    """
    from torch.fx.experimental import _config

    _config.use_duck_shape = False


def has_triton() -> bool:
    """Whether the compiler that torch.compile needs on a GPU is installed and supports this one.

    Otherwise torch says so at the first step only.
    """
    from torch.utils._triton import has_triton

    return has_triton()


def cpp_compilers() -> list[str]:
    """The names of C++ compilers that torch.compile looks for on a CPU: that of ``CXX``, or its own choice.

    Otherwise torch says so at the first step only.
    """
    from torch._inductor import config

    return [name for name in config.cpp.cxx if name]
