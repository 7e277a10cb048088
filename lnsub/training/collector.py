"""The score collector: gathers what a score needs, and nothing else, in one pass over a sample of the train split.

Dropout is off. Ranks that each hold the whole model divide the examples and add their sums up; ranks that share a
model's rows all read every example, and sum for their own rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.launcher import is_first_process
from lnsub.data.batching import IGNORED
from lnsub.pruning.scores import Need
from lnsub.pruning.sharding import Ranks, with_rows
from lnsub.training.layer_sums import LayerSums
from lnsub.training.logging_setup import warn_once
from lnsub.training.module import SubnetModule
from lnsub.training.samples import Labels, SampleBatches, sampled_labels, tokens_of


@dataclass(frozen=True)
class SampleSums:
    """Sums over a sample; those of two samples of one model add up to those of both.

    Attributes:
        examples: how many examples.
        labels: how many labels counted.
        gradients: the gradient of the summed loss, by parameter name; empty where it was not needed.
        squares: sums over examples of an example's squared gradient; likewise.
        inputs: sums over tokens of an input's square, float64, see :class:`~lnsub.training.layer_sums.LayerSums`;
            likewise.
        tokens: the number of those tokens; likewise.
    """

    examples: int
    labels: Tensor
    gradients: Mapping[str, Tensor]
    squares: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    tokens: Mapping[str, Tensor]

    def __add__(self, other: "SampleSums") -> "SampleSums":
        def both(what: str) -> dict[str, Tensor]:
            ours, theirs = getattr(self, what), getattr(other, what)
            return {name: tensor + theirs[name] for name, tensor in ours.items()}

        sums = {what: both(what) for what in ("gradients", "squares", "inputs", "tokens")}
        return SampleSums(self.examples + other.examples, self.labels + other.labels, **sums)

    def means(self) -> dict[str, dict[str, Tensor]]:
        """The means, by what they are (see :class:`~lnsub.pruning.scores.ScoreInputs`) and parameter name."""
        found = {
            "gradients": {name: total / self.labels for name, total in self.gradients.items()},
            "squared_gradients": {name: total / self.examples for name, total in self.squares.items()},
            "activations": {name: (total / self.tokens[name]).to(torch.float32) for name, total in self.inputs.items()},
        }
        return {what: tensors for what, tensors in found.items() if tensors}


class Collector:
    """One pass over a sample.

    An example is a row of the train split: a pair, a sentence, or a block of text. Its log-likelihood is the sum over
    its counted positions, those whose label is not ignored.

    Args:
        name: of the score, for messages.
        needs: what is summed up.
        module: the model, in evaluation mode, on the device that computes; gradients are left in its parameters.
        batches: the sample.
        labels: see :class:`~lnsub.training.samples.Sample`.
        reduce: sums a tensor over the processes that read parts of the sample.
        progress: see :meth:`~lnsub.training.samples.SampleBatches.read`.
    """

    def __init__(
        self,
        name: str,
        needs: frozenset[Need],
        module: SubnetModule,
        batches: SampleBatches,
        *,
        labels: Labels = "observed",
        reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._name = name
        self._needs = needs
        self._module = module
        self._batches = batches
        self._labels = labels
        self._reduce = reduce
        self._progress = progress
        self._device = next(module.parameters()).device
        self._sharded = Ranks.sharing(module.subnet.weights.values()).group is not None
        self._counted = torch.zeros((), dtype=torch.int64, device=self._device)  # labels, on this rank

    def collect(self) -> SampleSums:
        """Reads the sample; returns the sums, on the device that computes.

        Raises:
            UserError: the loss depends on none of the weights that the score needs gradients of.
        """
        weights = self._module.subnet.weights
        sums = LayerSums(self._module.model, weights, self._needs)
        with sums.recording():
            for rows, batch in self._batches.read(self._device, self._progress):
                self._read(rows, batch, sums)
        gradients: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        if "gradients" in self._needs:
            self._require({name: int(weight.grad is not None) for name, weight in weights.items()})
            for name, weight in weights.items():
                gradients[name] = self._over_ranks(torch.zeros_like(weight) if weight.grad is None else weight.grad)
        if "squared_gradients" in self._needs:
            self._require(sums.seen)
            squares = {
                name: with_rows(self._over_ranks(sums.squares[name]), weight) for name, weight in weights.items()
            }
        return SampleSums(
            examples=self._batches.examples,
            labels=self._over_ranks(self._counted),
            gradients={name: total.detach() for name, total in gradients.items()},
            squares={name: total.detach() for name, total in squares.items()},
            inputs={name: self._over_ranks(total) for name, total in sums.inputs.items()},
            tokens={name: self._over_ranks(total) for name, total in sums.tokens.items()},
        )

    def _read(self, rows: NDArray[np.int64], batch: dict[str, Tensor], sums: LayerSums) -> None:
        """One pass: sums up the gradients in the parameters' ``grad``, and all else in ``sums``."""
        sums.start(tokens_of(self._module.model, batch))
        labels = batch["labels"]
        if self._needs == {"activations"}:
            with torch.no_grad():
                self._module(batch)
            return
        logits = self._module(batch)
        if self._labels == "sampled":
            labels = sampled_labels(logits, batch, rows, self._module.seed)
        count = (labels != IGNORED).sum()
        # The sum over positions and examples: an example's part in it is its own log-likelihood, whatever the batch.
        (self._module.task.loss(logits, labels) * count).backward()
        self._counted += count
        sums.finish()
        if "gradients" not in self._needs:
            self._module.zero_grad(set_to_none=True)

    def _over_ranks(self, tensor: Tensor) -> Tensor:
        """Adds up what ranks have from their own examples. Where the model is sharded all have read the same ones."""
        return tensor if self._sharded else self._reduce(tensor)

    def _require(self, seen: Mapping[str, int]) -> None:
        """Says, on rank 0, which weights no rank has found a gradient of: their score is 0, so they go first."""
        counts = self._over_ranks(torch.tensor(list(seen.values()), device=self._device))
        unseen = [name for name, count in zip(seen, counts.tolist(), strict=True) if not count]
        if len(unseen) == len(seen):
            raise UserError(
                f"The loss of {self._module.task.name} depends on none of the prunable weights, so there is no gradient"
                f" to compute the score {self._name} from: choose another score, such as magnitude."
            )
        if unseen and is_first_process():
            warn_once(
                f"The loss of {self._module.task.name} does not depend on {len(unseen)} of {len(seen)} prunable "
                f"matrices, such as {unseen[0]}: their {self._name} score is 0, so they are pruned first."
            )
