"""Cross-entropy over a large vocabulary, a piece of the positions after the other.

Plain cross-entropy holds logits, their log-softmax, and the gradient of each: four tensors of, for 2,048 tokens of
Gemma, 2 GB each in float32. Here there is one, and what a piece needs for a moment.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.data.batching import IGNORED

PIECE = 2**24
"""Logits that are looked at together: 64 MB in float32."""


def summed_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy in nats summed over the labels that count, float64, without a gradient.

    Args:
        logits: [..., classes], of any floating dtype; they are read as float32.
        labels: int64 [...]; those of :data:`~lnsub.data.batching.IGNORED` do not count.
    """
    with torch.no_grad():
        pieces = [
            F.cross_entropy(part.float(), wanted, ignore_index=IGNORED, reduction="sum").double()
            for part, wanted in _pieces(logits.flatten(0, -2), labels.flatten())
        ]
        return torch.stack(pieces).sum() if pieces else torch.zeros((), dtype=torch.float64, device=logits.device)


def nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy in nats of each label, float64 [...], 0 where it does not count, without a gradient.

    Arguments are as for :func:`summed_nats`.
    """
    with torch.no_grad():
        pieces = [
            F.cross_entropy(part.float(), wanted, ignore_index=IGNORED, reduction="none").double()
            for part, wanted in _pieces(logits.flatten(0, -2), labels.flatten())
        ]
        found = torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.float64, device=logits.device)
        return found.view(labels.shape)


def mean_nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy in nats over the labels that count; 0 where none does.

    The backward pass overwrites the logits by their gradient. It runs once; afterwards the logits are gone.

    Args:
        logits: [..., classes], of any floating dtype; they are read as float32.
        labels: int64 [...]; those of :data:`~lnsub.data.batching.IGNORED` do not count.

    Returns:
        A float32 scalar.
    """
    found: Tensor = _MeanNats.apply(logits, labels)
    return found


class _MeanNats(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, labels: Tensor) -> Tensor:
        count = (labels != IGNORED).sum().clamp(min=1)
        ctx.save_for_backward(logits, labels, count)
        return (summed_nats(logits, labels) / count).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        logits, labels, count = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = gradient / count
        flat = logits.view(-1, logits.shape[-1])
        for part, wanted in _pieces(flat, labels.flatten()):
            counted = wanted != IGNORED
            of_piece = part.float().softmax(-1)
            of_piece[torch.arange(len(wanted), device=wanted.device), wanted.clamp(min=0)] -= 1.0
            part.copy_(of_piece.mul_((counted * scale).unsqueeze(1)))
        return logits, None


def _pieces(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, PIECE // logits.shape[-1])
    return zip(logits.split(rows), labels.split(rows), strict=True)
