"""Natural language inference on XNLI (Conneau et al., 2018, https://arxiv.org/abs/1809.05053).

An encoder classifies the pair. An encoder-decoder (mT5) writes the label's word, as in Foroutan et al. (2022), who
follow the text-to-text format of Raffel et al. (2020, https://arxiv.org/abs/1910.10683, appendix D).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
from torch import Tensor
from torchmetrics import MetricCollection
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED, WINDOW
from lnsub.data.module import Encoded, Encoder, LanguageDataModule, label_reader
from lnsub.models.pretrained import Init, load_config, load_model, load_tokenizer
from lnsub.tasks.metrics import Accuracy
from lnsub.tasks.task import Task, model_inputs

LABELS = ("entailment", "neutral", "contradiction")
"""The labels in the order of their numbers; also the words that an encoder-decoder writes."""


@dataclass(frozen=True)
class XNLITask(Task):
    """Does the premise entail the hypothesis, contradict it, or neither?

    Args:
        tokenizer: the base model's folder or name on the Hub; :meth:`decode` reads label words with it.
    """

    name: ClassVar[str] = "xnli"
    title: ClassVar[str] = "XNLI"
    metric: ClassVar[str] = "accuracy"
    metric_title: ClassVar[str] = "accuracy"
    dataset: ClassVar[str] = "facebook/xnli"
    labels: ClassVar[tuple[str, ...]] = LABELS
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    tokenizer: str

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads an encoder with a classifier of 3 labels, or an encoder-decoder as it is; see :meth:`Task.build`."""
        if load_config(base_model).is_encoder_decoder:
            return load_model(AutoModelForSeq2SeqLM, base_model, init=init, attention=attention)
        return load_model(
            AutoModelForSequenceClassification,
            base_model,
            init=init,
            attention=attention,
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
        )

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Runs the model.

        Returns:
            Logits [batch, 3] for ``labels`` [batch]; of an encoder-decoder, by teacher forcing,
            [batch, target length, vocabulary] for ``labels`` [batch, target length].
        """
        inputs = model_inputs(model, batch)
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        return model(**inputs).logits

    def metrics(self) -> MetricCollection:
        """Returns the accuracy; of an encoder-decoder, the exact match of greedy decoding."""
        return MetricCollection({"accuracy": Accuracy()})

    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Returns the label of each pair, and what was predicted.

        Of an encoder-decoder the prediction is the label that greedy decoding starts to write, or None where it writes
        something else. Up to and including the first wrong token, teacher forcing shows just what greedy decoding
        writes; what comes after is not looked at.
        """
        labels = batch["labels"].tolist()
        predicted = logits.argmax(-1).tolist()
        if logits.dim() == 2:
            named = zip(labels, predicted, strict=True)
            pairs: list[tuple[str, str | None]] = [(LABELS[label], LABELS[guess]) for label, guess in named]
        else:
            words = label_words(load_tokenizer(self.tokenizer))
            pairs = [_read_label(words, *row) for row in zip(labels, predicted, strict=True)]
        return [
            {"index": index, "label": label, "prediction": prediction}
            for index, (label, prediction) in zip(batch["index"].tolist(), pairs, strict=True)
        ]


class XNLI(LanguageDataModule):
    """XNLI, or any data set with premises, hypotheses and the three labels.

    Args:
        language: the language's code: a sub-folder of the data folder, or the Hub configuration's name.
        tokenizer: the base model's folder or name on the Hub. If it is an encoder-decoder, rows become text to text.
        dataset: data folder (``<folder>/<language>/<split>.parquet``, ``.jsonl`` or ``.csv``) or name on the Hub.
            Columns: ``premise``, ``hypothesis``, ``label`` (0 entailment, 1 neutral, 2 contradiction, or the word).
        max_length: longest pair in tokens, special tokens included; of a longer pair the longer text is cut first.
        max_train_examples: use only this many rows of the train split, drawn once for all runs; parallel
            languages get the same rows. None uses all.
        max_eval_examples: the same for the validation and test splits.
        batch_size: rows in a training batch, per process.
        tokens_per_batch: instead of ``batch_size``, the most tokens in a padded training batch, per process.
        eval_tokens_per_batch: the most tokens in a padded batch of validation, test and prediction, per process.
        num_workers: loader processes; 0 loads in the main process, which is enough as nothing is tokenised then.
        seed: seed of the order of training batches.
        pad_to_multiple_of: round padded lengths up to a multiple of this; 8 suits tensor cores and gives
            ``torch.compile`` fewer shapes.
        group_window: ``batch_size`` rows of like length make a batch, out of what was drawn at random for so many
            batches; 1: batches are random as they stand, which ``model.attention: packed`` makes as fast.

    Raises:
        UserError: an argument is out of range. What is wrong with the data is said when it is first read.
    """

    columns = ("premise", "hypothesis", "label")

    def __init__(
        self,
        language: str,
        tokenizer: str,
        dataset: str = "facebook/xnli",
        max_length: int = 128,
        max_train_examples: int | None = None,
        max_eval_examples: int | None = None,
        batch_size: int = 32,
        tokens_per_batch: int | None = None,
        eval_tokens_per_batch: int = 16384,
        num_workers: int = 0,
        seed: int = 0,
        pad_to_multiple_of: int = 1,
        group_window: int = WINDOW,
    ) -> None:
        super().__init__(
            language=language,
            tokenizer=tokenizer,
            dataset=dataset,
            max_length=max_length,
            max_train_examples=max_train_examples,
            max_eval_examples=max_eval_examples,
            batch_size=batch_size,
            tokens_per_batch=tokens_per_batch,
            eval_tokens_per_batch=eval_tokens_per_batch,
            num_workers=num_workers,
            seed=seed,
            pad_to_multiple_of=pad_to_multiple_of,
            group_window=group_window,
        )
        self.task = XNLITask(tokenizer)

    @property
    def text_to_text(self) -> bool:
        """Whether the base model writes the label's word, rather than choosing among three classes."""
        return bool(load_config(self.tokenizer).is_encoder_decoder)

    def settings(self) -> dict[str, Any]:
        """Returns the length and the format."""
        return {**super().settings(), "text_to_text": self.text_to_text}

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that tokenises pairs."""
        read_label = label_reader(LABELS, features["label"])
        words = label_words(tokenizer) if self.text_to_text else None

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            labels = []
            for premise, hypothesis, label, number in zip(*(batch[c] for c in self.columns), numbers, strict=True):
                row = f"{where}, row {number} (counting from 0)"
                if not isinstance(premise, str) or not isinstance(hypothesis, str):
                    raise UserError(f"{row}: the premise or the hypothesis is not a string.")
                labels.append(read_label(label, row))
            premises, hypotheses = list(batch["premise"]), list(batch["hypothesis"])
            if words is None:
                encoded = tokenizer(premises, hypotheses, truncation="longest_first", max_length=self.max_length)
            else:
                pairs = zip(premises, hypotheses, strict=True)
                encoded = tokenizer([source_text(*pair) for pair in pairs], truncation=True, max_length=self.max_length)
            kept = [i for i in range(len(numbers)) if premises[i].strip() or hypotheses[i].strip()]
            if len(kept) < len(numbers):
                left_out["rows without any text"] += len(numbers) - len(kept)
            columns = {
                key: [encoded[key][i] for i in kept] for key in ("input_ids", "token_type_ids") if key in encoded
            }
            return {
                **columns,
                "labels": [labels[i] if words is None else words[labels[i]] for i in kept],
                "length": [len(encoded["input_ids"][i]) for i in kept],
                "index": [numbers[i] for i in kept],
            }

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the tokenised columns; ``labels`` is a number, or the tokens of the label's word."""
        labels = datasets.List(datasets.Value("int32")) if self.text_to_text else datasets.Value("int8")
        return datasets.Features({**self.input_features(tokenizer), "labels": labels})


def source_text(premise: str, hypothesis: str) -> str:
    """Writes a pair as an encoder-decoder reads it."""
    return f"xnli premise: {premise} hypothesis: {hypothesis}"


def label_words(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Returns the tokens of each label's word, with the end-of-sequence token, as an encoder-decoder writes them."""
    return [list(ids) for ids in tokenizer(text_target=list(LABELS))["input_ids"]]


def _read_label(words: list[list[int]], target: list[int], predicted: list[int]) -> tuple[str, str | None]:
    """Names the label that ``target`` spells, and the one that greedy decoding starts to write."""
    spelled = [token for token in target if token != IGNORED]
    label = LABELS[words.index(spelled)]
    agreed = next((i for i, token in enumerate(spelled) if predicted[i] != token), len(spelled) - 1)
    begun = predicted[: agreed + 1]
    fitting = [name for name, word in zip(LABELS, words, strict=True) if word[: len(begun)] == begun]
    return label, fitting[0] if len(fitting) == 1 else None
