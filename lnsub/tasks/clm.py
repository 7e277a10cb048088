"""Causal language modelling: the next token of running text, by models that read from left to right."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchmetrics import MetricCollection
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.bounds import Count
from lnsub.data.batching import IGNORED, BatchRows, Collator, ragged
from lnsub.models.architecture import require_left_to_right
from lnsub.models.pretrained import Dtype, Init, load_model, load_tokenizer
from lnsub.tasks.counts import tokens_read
from lnsub.tasks.metrics import BitsPerByte, CrossEntropy, Perplexity, TokenAccuracy
from lnsub.tasks.running_text import Frame, RunningText, special_frame
from lnsub.tasks.task import Task, model_inputs
from lnsub.tasks.token_bytes import bytes_of_tokens, bytes_on_device
from lnsub.tasks.token_loss import mean_nats


class CausalLMTask(Task):
    """Causal language modelling: each token after those before it."""

    name = "clm"
    title = "CLM"
    metric = "perplexity"
    metric_title = "perplexity"
    higher_is_better = False
    dataset = "wikimedia/wikipedia"
    counted = ("correct", "nats", "tokens", "bytes")
    denominators = MappingProxyType(
        {"accuracy": "tokens", "loss": "tokens", "perplexity": "tokens", "bits_per_byte": "bytes"}
    )
    auto_class = "AutoModelForCausalLM"
    pipeline = "text-generation"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa", dtype: Dtype = "float32"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with its language-modelling head; see :meth:`Task.build`."""
        require_left_to_right(base_model, self.name)
        return load_model(AutoModelForCausalLM, base_model, init=init, attention=attention, dtype=dtype)

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Returns logits [batch, length, vocabulary], aligned with ``labels`` [batch, length]: the next tokens."""
        return model(**model_inputs(model, batch), use_cache=False).logits

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the labels that count.

        A vocabulary of 262,144 makes logits the largest tensor of a step by far: their gradient takes their place, see
        :func:`~lnsub.tasks.token_loss.mean_nats`.
        """
        return mean_nats(logits, labels)

    def metrics(self) -> MetricCollection:
        """Returns the accuracy, the loss (nats) and the perplexity per token, and the bits per byte of the text."""
        scores = {
            "accuracy": TokenAccuracy(),
            "bits_per_byte": BitsPerByte(bytes_of_tokens(self.tokenizer)),
            "loss": CrossEntropy(),
            "perplexity": Perplexity(),
        }
        return MetricCollection(scores, compute_groups=[["accuracy"], ["bits_per_byte", "loss", "perplexity"]])

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Counts each block's predicted tokens: right, their summed cross-entropy in nats, all, and their bytes."""
        labels = batch["labels"]
        block = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
        sizes = bytes_on_device(self.tokenizer, labels.device)[labels.clamp(min=0)]
        size = (sizes * (labels != IGNORED)).sum(1, keepdim=True).double()
        return torch.cat([tokens_read(logits, labels, block, len(labels)), size], 1)

    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Returns the predicted positions of each block, the tokens that stand there and those predicted."""
        tokenizer = load_tokenizer(self.tokenizer)
        rows = zip(batch["index"].tolist(), batch["labels"], logits.argmax(-1), strict=True)
        examples = []
        for index, labels, predicted in rows:
            counted = (labels != IGNORED).nonzero().squeeze(1)
            examples.append(
                {
                    "index": index,
                    "positions": (counted + 1).tolist(),
                    "tokens": tokenizer.convert_ids_to_tokens(labels[counted].tolist()),
                    "predictions": tokenizer.convert_ids_to_tokens(predicted[counted].tolist()),
                }
            )
        return examples


class CausalLM(RunningText):
    """Wikipedia, or any running text, for causal language modelling.

    Documents are joined by the tokenizer's end token. A block starts with what the tokenizer puts before a text, such
    as Gemma's ``<bos>``, without which that model computes nonsense; where it puts nothing, a block's first token is
    not predicted. Predicted are all tokens but special ones: an end between two documents is no text. A token sees all
    that precedes it in its block, the documents before its own included.

    Args:
        eval_tokens_per_batch: the most tokens in a padded batch of validation, test and prediction, per process. The
            logits of 2,048 tokens take 2 GB in float32 where the vocabulary is Gemma's.
    """

    task_class = CausalLMTask

    def __init__(self, *args: Any, eval_tokens_per_batch: Count = 2048, **kwargs: Any) -> None:
        super().__init__(*args, eval_tokens_per_batch=eval_tokens_per_batch, **kwargs)

    def frame(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Returns what the tokenizer puts before a text, nothing after it, and its end token between documents."""
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        return Frame(special_frame(tokenizer)[0], [], [] if end is None else [end])

    def collator(self, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> "NextTokenCollator":
        """Returns the function that puts the next tokens beside a batch's blocks."""
        special = tuple(tokenizer.all_special_ids)
        return NextTokenCollator(tokenizer.pad_token_id, self.multiple, self.max_length, special)


@dataclass(frozen=True)
class NextTokenCollator(Collator):
    """Turns blocks into a batch of int64 tensors whose labels are the next tokens.

    The batch has ``input_ids``, ``attention_mask`` and ``labels`` [batch, length], and ``index`` [batch]. A position's
    label is the token after it; where that is special, and at a block's end, :data:`~lnsub.data.batching.IGNORED`.

    Args:
        special: tokens that are not predicted.
    """

    special: tuple[int, ...] = ()

    keeps_tokens: ClassVar[bool] = True

    def __call__(self, columns: pa.Table, batch: BatchRows) -> dict[str, Tensor]:
        """Returns the batch made of ``columns``, the blocks that ``batch`` names."""
        ids, lengths = ragged(columns["input_ids"])
        following = np.append(ids[1:].astype(np.int64), IGNORED)
        following[np.isin(following, self.special)] = IGNORED
        following[np.cumsum(lengths) - 1] = IGNORED
        return {
            "input_ids": self.pad(ids, lengths, self.pad_id),
            "attention_mask": self.pad(np.ones_like(ids), lengths, 0),
            "index": torch.from_numpy(batch.rows.astype(np.int64)),
            "labels": self.pad(following, lengths, IGNORED),
        }
