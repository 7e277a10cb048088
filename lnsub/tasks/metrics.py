"""Metrics whose state adds up over processes: counts and sums, whichever process had which rows.

Every ``update`` takes ``(logits, labels)``, logits [..., classes] and int64 labels [...]; labels of
:data:`~lnsub.data.batching.IGNORED` do not count.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lnsub.data.batching import IGNORED
from lnsub.tasks.counts import entities
from lnsub.tasks.token_loss import summed_nats


class Accuracy(Metric):
    """Share of examples whose every counted position is predicted right (by the largest logit).

    An example is one entry of the labels' first dimension. With labels [batch] this is plain accuracy. With labels
    [batch, target length] and logits from teacher forcing it is the exact match of greedy decoding: greedy decoding
    writes the target if and only if, at each position, the target's next token has the largest logit given the
    target so far, which is what teacher forcing computes. Once one position is wrong, so is the example.
    """

    higher_is_better = True
    correct: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch."""
        counted = labels != IGNORED
        right = (logits.argmax(-1) == labels) | ~counted
        examples = counted.reshape(len(labels), -1).any(1)
        self.correct = self.correct + (right.reshape(len(labels), -1).all(1) & examples).sum()
        self.total = self.total + examples.sum()

    def compute(self) -> Tensor:
        """Returns the share, float64; 0 if nothing was counted."""
        return self.correct.double() / self.total.clamp(min=1)


class TokenAccuracy(Accuracy):
    """Share of counted positions that are predicted right, whichever example they are in."""

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch."""
        super().update(logits.flatten(0, -2), labels.flatten())


class CrossEntropy(Metric):
    """Mean cross-entropy in nats over all counted positions: the sum divided by the count, not a mean of means."""

    higher_is_better = False
    nats: Tensor
    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("positions", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch."""
        self.nats = self.nats + summed_nats(logits, labels)
        self.positions = self.positions + (labels != IGNORED).sum()

    def compute(self) -> Tensor:
        """Returns nats per position, float64; 0 if nothing was counted."""
        return self.nats / self.positions.clamp(min=1)


class Perplexity(CrossEntropy):
    """exp of :class:`CrossEntropy`."""

    def compute(self) -> Tensor:
        """Returns the perplexity, float64."""
        return super().compute().exp()


class BitsPerByte(CrossEntropy):
    """Cross-entropy in bits over the bytes of the text that the counted tokens spell.

    Args:
        sizes: bytes that each token spells, int64 [tokens]; see :func:`~lnsub.tasks.token_bytes.bytes_of_tokens`.
    """

    bytes_: Tensor
    _sizes: Tensor

    def __init__(self, sizes: Tensor) -> None:
        super().__init__()
        self.add_state("bytes_", torch.tensor(0), dist_reduce_fx="sum")
        self.register_buffer("_sizes", sizes, persistent=False)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts one batch."""
        super().update(logits, labels)
        self.bytes_ = self.bytes_ + self._sizes[labels[labels != IGNORED]].sum()

    def compute(self) -> Tensor:
        """Returns bits per byte, float64; 0 if nothing was counted."""
        return self.nats / math.log(2) / self.bytes_.clamp(min=1)


class EntityScore(Metric):
    """Entity-level F1, precision or recall over all types together (micro), as seqeval computes it.

    See :func:`~lnsub.tasks.counts.entities` for what an entity is. Scores with nothing to divide by are 0.

    ``update`` takes logits [batch, length, 1 + 2 types] and labels [batch, length].

    Args:
        score: which of the three.
        lenient: seqeval's default mode, in place of its strict one with IOB2.
    """

    higher_is_better = True
    true_positives: Tensor
    predicted: Tensor
    gold: Tensor

    def __init__(self, score: Literal["f1", "precision", "recall"] = "f1", *, lenient: bool = False) -> None:
        super().__init__()
        self.score = score
        self.lenient = lenient
        for state in ("true_positives", "predicted", "gold"):
            self.add_state(state, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts the entities of one batch."""
        hits, predicted, gold = entities(logits, labels, lenient=self.lenient).sum(0).long()
        self.true_positives = self.true_positives + hits
        self.predicted = self.predicted + predicted
        self.gold = self.gold + gold

    def compute(self) -> Tensor:
        """Returns the score, float64, in seqeval's order of operations."""
        hits = self.true_positives.double()
        precision = hits / self.predicted.clamp(min=1)
        recall = hits / self.gold.clamp(min=1)
        if self.score == "precision":
            return precision
        if self.score == "recall":
            return recall
        total = precision + recall
        return 2.0 * precision * recall / torch.where(total == 0, 1.0, total)
