"""What each example of a batch adds to a task's metrics, without waiting for the device.

Each function returns one row per example, float64 [batch, columns]; labels of :data:`~lnsub.data.batching.IGNORED` do
not count.
"""

import torch
from torch import Tensor

from lnsub.data.batching import IGNORED
from lnsub.tasks.token_loss import nats


def examples_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts examples whose every position is predicted right.

    Args:
        logits: [batch, ..., classes].
        labels: int64 [batch, ...].

    Returns:
        Whether it is right, and whether it counts, [batch, 2].
    """
    counted = labels != IGNORED
    right = ((logits.argmax(-1) == labels) | ~counted).reshape(len(labels), -1).all(1)
    examples = counted.reshape(len(labels), -1).any(1)
    return torch.stack([right & examples, examples], 1).double()


def words_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts positions that are predicted right, and all that count, [batch, 2]; shapes as :func:`examples_right`."""
    counted = labels != IGNORED
    right = counted & (logits.argmax(-1) == labels)
    return torch.stack([right.flatten(1).sum(1), counted.flatten(1).sum(1)], 1).double()


def tokens_read(logits: Tensor, labels: Tensor, example: Tensor, examples: int) -> Tensor:
    """Counts predicted tokens, wherever they are in the batch.

    Args:
        logits: [..., vocabulary].
        labels: int64 [...].
        example: the example that each label belongs to, int64 [...].
        examples: how many examples there are.

    Returns:
        Tokens that are predicted right, the summed cross-entropy in nats, and all tokens, [batch, 3].
    """
    counted = labels != IGNORED
    right = counted & (logits.argmax(-1) == labels)
    of_token = torch.stack([right.double(), nats(logits, labels), counted.double()], -1).flatten(0, -2)
    return of_token.new_zeros(examples, 3).index_add_(0, example.flatten(), of_token)


def entities(logits: Tensor, labels: Tensor, *, lenient: bool = False) -> Tensor:
    """Counts the entities of each sentence, as seqeval does.

    Strict (seqeval's ``mode="strict"``, ``scheme=IOB2``): an entity is a B- tag and the I- tags of its type that follow
    at once; an I- tag that continues nothing belongs to no entity. Lenient (seqeval's default, as CoNLL's conlleval):
    such an I- tag begins an entity. Either way a predicted entity is a hit if its type and both its ends are right.

    Args:
        logits: [batch, length, 1 + 2 types].
        labels: int64 [batch, length]: 0 for O and 2k - 1, 2k for B and I of type k. Positions without a label are left
            out, so that a word's later pieces do not split an entity.
        lenient: which of the two.

    Returns:
        Hits, predicted and true entities, [batch, 3].
    """
    counted = labels != IGNORED
    # What counts moves to the front of its row; what follows it is O, which continues no entity.
    order = (~counted).int().argsort(dim=1, stable=True)
    gold = labels.masked_fill(~counted, 0).gather(1, order)
    predicted = logits.argmax(-1).masked_fill(~counted, 0).gather(1, order)
    starts, ends = _bounds(gold, lenient)
    starts_predicted, ends_predicted = _bounds(predicted, lenient)
    hits = starts & starts_predicted & (_type(gold) == _type(predicted)) & (ends == ends_predicted)
    return torch.stack([found.sum(1) for found in (hits, starts_predicted, starts)], 1).double()


def _type(tags: Tensor) -> Tensor:
    return torch.div(tags + 1, 2, rounding_mode="floor")


def _bounds(tags: Tensor, lenient: bool) -> tuple[Tensor, Tensor]:
    """Finds the entities in rows of tags [batch, length].

    Returns:
        Whether an entity starts at each position, bool [batch, length], and for each position the first one after it
        that does not continue an entity, int64 [batch, length].
    """
    begins = tags % 2 == 1
    before = torch.nn.functional.pad(tags[:, :-1], (1, 0), value=0)
    continues = (tags > 0) & ~begins & (_type(before) == _type(tags))
    starts = (tags > 0) & ~continues if lenient else begins
    length = tags.shape[1]
    positions = torch.arange(length, device=tags.device).expand_as(tags)
    stops = torch.where(continues, length, positions)
    # The smallest stop after a position: a running minimum from the right, moved one place to the left.
    ends = torch.nn.functional.pad(stops.flip(1).cummin(1).values.flip(1)[:, 1:], (0, 1), value=length)
    return starts, ends
