"""The score collector: gathers what a score needs, and nothing else, in one pass over a sample of the train split.

The sample depends on the seed and the train split alone, so it is the same in every round, on any number of ranks and
for any batch size. Dropout is off. Ranks that each hold the whole model divide the examples and add their sums up;
ranks that share a model's rows all read every example, and sum for their own rows.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.data.batching import IGNORED, BatchRows
from lnsub.models.subnet import Weights
from lnsub.pruning.masks import generator_for
from lnsub.pruning.scores import SCORES, Need, ScoreInputs
from lnsub.pruning.sharding import Ranks, with_rows
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.callbacks import RunCallback
from lnsub.training.layer_sums import LayerSums
from lnsub.training.module import SubnetModule

log = logging.getLogger(__name__)

Labels = Literal["observed", "sampled"]

PER_PASS = 8
"""The most examples in a pass; a training batch of fewer, which may be all that fits the device, sets the limit."""

_STREAM = 2111_09839  # of random numbers, so that the sample is independent of the order of training


@dataclass(frozen=True)
class Sample:
    """What a score that reads data is computed from.

    Attributes:
        examples: how many rows of the train split, drawn at random; all, where there are fewer.
        labels: ``observed``: those of the data; ``sampled``: drawn from the model's own distribution, once per counted
            position and example (of a text-to-text model, each token given the true ones before it).
    """

    examples: int = 1024
    labels: Labels = "observed"


def collect_inputs(
    name: str,
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    theta_0: Weights,
    sample: Sample,
) -> ScoreInputs:
    """Gathers what a score needs. All ranks call it together, between two fits.

    An example is a row of the train split: a pair, a sentence, or a block of text. Its log-likelihood is the sum over
    its counted positions, those whose label is not ignored.

    Args:
        name: a key of :data:`~lnsub.pruning.scores.SCORES`.
        trainer: the run's trainer. Its callbacks hear of the progress.
        module: the model; between fits Lightning keeps it on the CPU, so it is moved to the device and back.
        datamodule: the data.
        theta_0: a snapshot of the base model.
        sample: the examples and their labels, for a score that reads data.

    Returns:
        The weights and what else the score needs, on the module's device before the call; all of it sharded as the
        weights are, except for activations, which are whole on every rank.

    Raises:
        UserError: there is no such score; or the loss depends on none of the weights that it needs gradients of.
    """
    needs = lookup("score", name, SCORES).needs
    init = module.subnet.prunable_of(theta_0) if "init" in needs else None
    measured: dict[str, Any] = {}
    if SCORES[name].reads_data:
        home = module.device
        module.to(trainer.strategy.root_device).eval()
        module.zero_grad(set_to_none=True)
        try:
            measured = _Collector(name, needs, trainer, module, datamodule, sample).collect(home)
        finally:
            module.zero_grad(set_to_none=True)
            module.to(home).train()
    # Taken last, as moving a module may replace its parameters.
    weights = {weight: tensor.detach() for weight, tensor in module.subnet.weights.items()}
    return ScoreInputs(weights=weights, init=init, seed=module.seed, **measured)


class _Collector:
    """One pass over the sample; see :func:`collect_inputs`."""

    def __init__(
        self,
        name: str,
        needs: frozenset[Need],
        trainer: Trainer,
        module: SubnetModule,
        datamodule: LanguageDataModule,
        sample: Sample,
    ) -> None:
        self._name = name
        self._needs = needs
        self._trainer = trainer
        self._module = module
        self._sample = sample
        self._sharded = Ranks.sharing(module.subnet.weights.values()).group is not None
        self._labels = torch.zeros((), dtype=torch.int64, device=module.device)  # that counted, on this rank

        loader = datamodule.train_dataloader()
        self._dataset = loader.dataset
        lengths = loader.sampler.lengths
        drawn = np.random.default_rng([module.seed, _STREAM]).permutation(len(lengths))[: sample.examples]
        self._examples = len(drawn)
        # Rows of like length go together, which wastes least on padding.
        rows = drawn[np.argsort(-lengths[drawn], kind="stable")]
        self._rows = rows if self._sharded else rows[trainer.global_rank :: trainer.world_size]
        self._per_pass = min(PER_PASS, datamodule.batch_size)

    def collect(self, home: torch.device) -> dict[str, dict[str, Tensor]]:
        """Reads the sample; returns the means by what they are and parameter name, on the device ``home``."""
        sums = LayerSums(self._module.model, self._module.subnet.weights, self._needs)
        with sums.recording():
            for rows, batch in self._passes():
                self._read(rows, batch, sums)
        found: dict[str, dict[str, Tensor]] = {}
        if "gradients" in self._needs:
            self._require({name: int(w.grad is not None) for name, w in self._module.subnet.weights.items()})
            labels = self._over_ranks(self._labels)
            found["gradients"] = {
                name: (self._over_ranks(torch.zeros_like(weight) if weight.grad is None else weight.grad) / labels)
                for name, weight in self._module.subnet.weights.items()
            }
        if "squared_gradients" in self._needs:
            self._require(sums.seen)
            found["squared_gradients"] = {
                name: with_rows(self._over_ranks(sums.squares[name]) / self._examples, weight)
                for name, weight in self._module.subnet.weights.items()
            }
        if "activations" in self._needs:
            found["activations"] = {
                # An expert that no token was sent to has been given nothing.
                name: (self._over_ranks(total) / self._over_ranks(sums.tokens[name]).clamp(min=1)).to(torch.float32)
                for name, total in sums.inputs.items()
            }
        return {
            what: {name: tensor.detach().to(home, copy=True) for name, tensor in tensors.items()}
            for what, tensors in found.items()
        }

    def _passes(self) -> Iterator[tuple[NDArray[np.int64], dict[str, Tensor]]]:
        for start in range(0, len(self._rows), self._per_pass):
            rows = self._rows[start : start + self._per_pass]
            batch = self._dataset[BatchRows(0, rows)]
            yield rows, {name: tensor.to(self._module.device) for name, tensor in batch.items()}
            for callback in self._trainer.callbacks:
                if isinstance(callback, RunCallback):
                    callback.on_examples_scored(self._trainer, start + len(rows), len(self._rows))

    def _read(self, rows: NDArray[np.int64], batch: dict[str, Tensor], sums: LayerSums) -> None:
        """One pass: sums up the gradients in the parameters' ``grad``, and all else in ``sums``."""
        labels = batch["labels"]
        padding = [batch["attention_mask"].bool()]
        if self._module.model.config.is_encoder_decoder:
            if labels.shape == padding[0].shape:
                # One more ignored position changes nothing, and tells the decoder's states from the encoder's.
                labels = batch["labels"] = F.pad(labels, (0, 1), value=IGNORED)
            padding.append(labels != IGNORED)
        sums.start(padding)
        if self._needs == {"activations"}:
            with torch.no_grad():
                self._module(batch)
            return
        logits = self._module(batch)
        if self._sample.labels == "sampled":
            labels = sampled_labels(logits, batch, rows, self._module.seed)
        count = (labels != IGNORED).sum()
        # The sum over positions and examples: an example's part in it is its own log-likelihood, whatever the batch.
        (self._module.task.loss(logits, labels) * count).backward()
        self._labels += count
        sums.finish()
        if "gradients" not in self._needs:
            self._module.zero_grad(set_to_none=True)

    def _over_ranks(self, tensor: Tensor) -> Tensor:
        """Adds up what ranks have from their own examples. Where the model is sharded all have read the same ones."""
        if self._sharded:
            return tensor
        return cast(Tensor, self._trainer.strategy.reduce(tensor, reduce_op="sum"))

    def _require(self, seen: Mapping[str, int]) -> None:
        """Says, on rank 0, which weights no rank has found a gradient of: their score is 0, so they go first."""
        counts = self._over_ranks(torch.tensor(list(seen.values()), device=self._module.device))
        unseen = [name for name, count in zip(seen, counts.tolist(), strict=True) if not count]
        if len(unseen) == len(seen):
            raise UserError(
                f"The loss of {self._module.task.name} depends on none of the prunable weights, so there is no gradient"
                f" to compute the score {self._name} from: choose another score, such as magnitude."
            )
        if unseen and self._trainer.is_global_zero:
            _warn_once(
                f"The loss of {self._module.task.name} does not depend on {len(unseen)} of {len(seen)} prunable "
                f"matrices, such as {unseen[0]}: their {self._name} score is 0, so they are pruned first."
            )


@lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    """Warns in the first round, and not in all those that find the same."""
    log.warning(message)


def sampled_labels(logits: Tensor, batch: Mapping[str, Tensor], rows: NDArray[np.int64], seed: int) -> Tensor:
    """Draws labels from a model's own distribution.

    Args:
        logits: the model's output, [..., classes].
        batch: the batch; labels are drawn where ``labels`` [...] counts.
        rows: the examples' numbers, [batch].
        seed: an example's draw depends on this, its number and its logits alone.

    Returns:
        Labels as in the batch, with the drawn ones in place of those that count.
    """
    labels = batch["labels"].clone()
    if "positions" in batch:  # the labels of all examples in one list
        example = batch["positions"] // batch["input_ids"].shape[1]
    else:
        example = torch.arange(len(rows), device=labels.device).view(-1, *[1] * (labels.dim() - 1)).expand_as(labels)
    for place, row in enumerate(rows.tolist()):
        here = (labels != IGNORED) & (example == place)
        # On the CPU in double precision: the sum of 100,000 probabilities, the same on any kind of device.
        cumulated = logits[here].detach().cpu().double().softmax(-1).cumsum(-1)
        generator = generator_for("fisher", seed, str(row))
        uniform = torch.rand(len(cumulated), 1, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True).squeeze(1)
        labels[here] = drawn.clamp_(max=logits.shape[-1] - 1).to(labels)
    return labels
