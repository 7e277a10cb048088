"""The sample of the train split that a score is computed from: which rows, in which batches, with which labels.

It depends on the seed and the train split alone, so it is the same in every round, on any number of ranks and for any
batch size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import PreTrainedModel

from lnsub.data.batching import IGNORED, BatchRows
from lnsub.pruning.masks import generator_for
from lnsub.tasks.task import LanguageDataModule

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


class SampleBatches:
    """The batches of a sample.

    Args:
        datamodule: the data.
        seed: what the rows are drawn by.
        examples: how many rows; all, where there are fewer.
        share: which of them are read here, as a slice of them in the order of their lengths.

    Attributes:
        examples: how many rows the whole sample has.
        tokens: how many tokens were read here so far, without padding; of an encoder-decoder those of the encoder.
    """

    def __init__(self, datamodule: LanguageDataModule, seed: int, examples: int, share: slice = slice(None)) -> None:
        loader = datamodule.train_dataloader()
        self._dataset = loader.dataset
        lengths = loader.sampler.lengths
        drawn = np.random.default_rng([seed, _STREAM]).permutation(len(lengths))[:examples]
        self.examples = len(drawn)
        self.tokens = 0
        # Rows of like length go together, which wastes least on padding.
        self._rows = drawn[np.argsort(-lengths[drawn], kind="stable")][share]
        self._per_pass = min(PER_PASS, datamodule.batch_size)

    def read(
        self, device: torch.device, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, Tensor]]]:
        """Reads the batches: the numbers of their rows, and their tensors on a device.

        Args:
            device: where the tensors go.
            progress: called after each batch was used, with the examples that are done here and all that are read here.
        """
        for start in range(0, len(self._rows), self._per_pass):
            rows = self._rows[start : start + self._per_pass]
            batch = self._dataset[BatchRows(0, rows)]
            self.tokens += int(batch["attention_mask"].sum())
            yield rows, {name: tensor.to(device) for name, tensor in batch.items()}
            progress(start + len(rows), len(self._rows))


def tokens_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[Tensor]:
    """Which of a batch's positions are tokens and not padding.

    Args:
        model: a Hugging Face model.
        batch: the batch; the labels of an encoder-decoder get one more position, which does not count, where needed.

    Returns:
        bool [batch, length]; of an encoder-decoder also the decoder's, of another length.
    """
    found = [batch["attention_mask"].bool()]
    if model.config.is_encoder_decoder:
        if batch["labels"].shape == found[0].shape:
            # One more ignored position changes nothing, and tells the decoder's states from the encoder's.
            batch["labels"] = F.pad(batch["labels"], (0, 1), value=IGNORED)
        found.append(batch["labels"] != IGNORED)
    return found


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
