"""Metrics whose state adds up over processes: counts and sums, whichever process had which rows.

Every ``update`` takes ``(logits, labels)``, logits [..., classes] and int64 labels [...]; labels of
:data:`~lnsub.data.batching.IGNORED` do not count.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lnsub.data.batching import IGNORED
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
    """Entity-level F1, precision or recall over all types together (micro), as seqeval's strict mode with IOB2.

    An entity is a B- tag and the I- tags of its type that follow at once; an I- tag that continues nothing belongs to
    no entity. A predicted entity counts only if its type and both its ends are right. Scores with nothing to divide
    by are 0.

    ``update`` takes logits [batch, length, 1 + 2 types] and labels [batch, length], with tags 0 for O and 2k - 1, 2k
    for B and I of type k. Positions without a label are left out, so that a word's later pieces do not split an entity.

    Args:
        score: which of the three.
    """

    higher_is_better = True
    true_positives: Tensor
    predicted: Tensor
    gold: Tensor

    def __init__(self, score: Literal["f1", "precision", "recall"] = "f1") -> None:
        super().__init__()
        self.score = score
        for state in ("true_positives", "predicted", "gold"):
            self.add_state(state, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts the entities of one batch."""
        # A column of O after each sentence ends its last entity, so that sentences can be laid end to end.
        labels = nn.functional.pad(labels, (0, 1), value=0)
        counted = labels != IGNORED
        gold = labels[counted]
        predicted = nn.functional.pad(logits.argmax(-1), (0, 1), value=0)[counted]
        starts, ends = _entities(gold)
        starts_predicted, ends_predicted = _entities(predicted)
        same = starts & starts_predicted & (gold == predicted) & (ends == ends_predicted)
        self.true_positives = self.true_positives + same.sum()
        self.predicted = self.predicted + starts_predicted.sum()
        self.gold = self.gold + starts.sum()

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


def _entities(tags: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the entities in a sequence of tags [n].

    Returns:
        Whether an entity starts at each position, bool [n], and for each position the first one after it that does
        not continue an entity, int64 [n].
    """
    starts = tags % 2 == 1
    before = nn.functional.pad(tags[:-1], (1, 0), value=0)
    continues = (tags > 0) & ~starts & ((before == tags) | (before == tags - 1))
    positions = torch.arange(len(tags), device=tags.device)
    stops = torch.where(continues, len(tags), positions)
    # The smallest stop after a position: a running minimum from the right, moved one place to the left.
    ends = nn.functional.pad(stops.flip(0).cummin(0).values.flip(0)[1:], (0, 1), value=len(tags))
    return starts, ends
