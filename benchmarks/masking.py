"""One training step under a 50 % mask: dense, by masked gradients, and re-parametrised by ``torch.nn.utils.prune``."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.harness import MB, Case, Row, Timing, at_most, interleave, memory_of
from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask

DENSE, MASKED, REPARAMETRISED = "dense", "lnsub: masked gradients", "torch.nn.utils.prune: float masks in the forward"

CHECKED_STEPS = 9
"""Optimizer steps over which the losses under a mask are compared."""


@dataclass(frozen=True)
class Size:
    """The size of a model and its batch."""

    layers: int
    hidden: int
    rows: int
    length: int


FULL = Size(layers=12, hidden=384, rows=32, length=48)  # 21.4 M prunable weights, a mean batch of XNLI
QUICK = Size(layers=2, hidden=32, rows=4, length=12)


class Training:
    """A classifier with random weights, trained as in the recipe: AdamW on clipped gradients.

    Args:
        how: one of the three alternatives.
        size: of the model and its batch.
    """

    def __init__(self, how: str, size: Size) -> None:
        torch.manual_seed(0)
        self.model = BertForSequenceClassification(
            BertConfig(
                vocab_size=12_000,
                hidden_size=size.hidden,
                num_hidden_layers=size.layers,
                num_attention_heads=size.hidden // 32 or 1,
                intermediate_size=4 * size.hidden,
                num_labels=3,
            )
        )
        self.subnet: Subnet | None = None
        self.buffers = 0
        mask = _half(self.model)
        if how == MASKED:
            self.subnet = Subnet(self.model)
            self.subnet.set_mask(mask)
            self.buffers = sum(bits.nbytes for bits in mask.values())
        elif how == REPARAMETRISED:
            for name, linear in prunable(self.model).items():
                prune.custom_from_mask(linear.module, "weight", mask[name].float())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5, fused=True)
        self.batch = _batch(size)
        self.steps = 0

    def step(self) -> float:
        """Makes one optimizer step, with dropout seeded by its number; returns the loss before it."""
        torch.manual_seed(self.steps)
        loss: Tensor = self.model(**self.batch).loss
        loss.backward()
        if self.subnet is not None:
            self.subnet.mask_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        return loss.item()


def run(quick: bool, repeats: int) -> list[Row]:
    """Checks that both masking methods train alike, then measures time and memory of all three.

    Args:
        quick: a toy encoder instead of one with 21 M prunable weights.
        repeats: a third of the turns: resolving a 2 % difference needs many.
    """
    size = QUICK if quick else FULL
    trainings = {how: Training(how, size) for how in (DENSE, MASKED, REPARAMETRISED)}
    apart = _furthest_apart(trainings[MASKED], trainings[REPARAMETRISED])
    timings = interleave([Case(how, training.step) for how, training in trainings.items()], 3 * repeats)
    subnet = trainings[MASKED].subnet
    assert subnet is not None
    for weight in subnet.weights.values():
        weight.grad = torch.randn_like(weight)
    alone = interleave([Case("masking", subnet.mask_gradients)], 3 * repeats)["masking"]
    buffers = {how: training.buffers for how, training in trainings.items()}
    trainings.clear()

    # A process for each takes seconds, and is meaningless for a toy.
    peaks = {how: 1 if quick else memory_of(_trained, how, size).peak for how in timings}
    rows = [Row(f"{DENSE} step", timings[DENSE], values={"MB at its peak": peaks[DENSE] / MB})]
    for how in (MASKED, REPARAMETRISED):
        extra, timing = peaks[how] - peaks[DENSE], timings[how]
        ratio = timing.ratio(timings[DENSE])
        values: dict[str, float] = {"MB beyond dense": extra / MB}
        claims = []
        if how == MASKED:
            besides = (extra - buffers[how]) / peaks[DENSE]
            values |= {"MB of them mask buffers": buffers[how] / MB, "difference of losses at most": apart}
            claims = [at_most(ratio, 1.02, "x dense"), at_most(100 * besides, 2, "% more memory, buffers aside")]
        rows.append(Row(f"{how} step", timing, f"{DENSE} step", ratio, values, claims))
    rows.append(_share(alone, timings[DENSE]))
    return rows


def _share(alone: Timing, dense: Timing) -> Row:
    percent = 100 * alone.median / dense.median
    return Row("lnsub: masking the gradients alone", alone, values={"% of a dense step": percent})


def _furthest_apart(one: Training, other: Training) -> float:
    """Trains both; returns the largest difference of their losses, which must be within rounding."""
    losses = [(one.step(), other.step()) for _ in range(CHECKED_STEPS)]
    assert all(math.isclose(*pair, rel_tol=1e-6) for pair in losses), losses
    assert len({first for first, _ in losses}) > 1
    return max(abs(first - second) for first, second in losses)


def _trained(how: str, size: Size) -> Callable[[], object]:
    """Prepares a step for the memory measurement, with the optimizer state already allocated."""
    training = Training(how, size)
    training.step()
    return partial(training.step)


def _half(model: nn.Module) -> Mask:
    """Half of the weights at random: the positions of zeros do not affect the cost."""
    random = torch.Generator().manual_seed(1)
    return Mask({n: torch.rand(lin.parameter.shape, generator=random) >= 0.5 for n, lin in prunable(model).items()})


def _batch(size: Size) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    mask = torch.ones(size.rows, size.length, dtype=torch.long)
    mask[: size.rows // 4, -2:] = 0  # a little padding, as in length-grouped batches
    return {
        "input_ids": torch.randint(5, 12_000, (size.rows, size.length), generator=random),
        "attention_mask": mask,
        "labels": torch.randint(0, 3, (size.rows,), generator=random),
    }
