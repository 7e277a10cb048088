"""Natural language inference on XNLI (Conneau et al., 2018, https://arxiv.org/abs/1809.05053).

An encoder classifies the pair; so does a decoder, by its last token. An encoder-decoder (mT5) writes the label's word,
as in Foroutan et al. (2022), who follow the text-to-text format of Raffel et al. (2020,
https://arxiv.org/abs/1910.10683, appendix D).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import datasets
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from torchmetrics import MetricCollection
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded, Encoder
from lnsub.models.architecture import left_to_right
from lnsub.models.pretrained import Dtype, Init, load_config, load_model, load_tokenizer
from lnsub.tasks.counts import examples_right
from lnsub.tasks.labels import label_names, label_reader, labelled
from lnsub.tasks.metrics import Accuracy
from lnsub.tasks.task import LanguageDataModule, Task, model_inputs

LABELS = ("entailment", "neutral", "contradiction")
"""The labels in the order of their numbers; also the words that an encoder-decoder writes."""


class XNLITask(Task):
    """Does the premise entail the hypothesis, contradict it, or neither?"""

    name = "xnli"
    title = "XNLI"
    metric = "accuracy"
    metric_title = "accuracy"
    chance = 1 / 3
    dataset = "facebook/xnli"
    labels = LABELS
    counted = ("correct", "pairs")
    denominators = MappingProxyType({"accuracy": "pairs"})
    auto_class = "AutoModelForSequenceClassification"
    pipeline = "text-classification"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa", dtype: Dtype = "float32"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads an encoder with a classifier of 3 labels, or an encoder-decoder as it is; see :meth:`Task.build`."""
        if load_config(base_model).is_encoder_decoder:
            return load_model(AutoModelForSeq2SeqLM, base_model, init=init, attention=attention, dtype=dtype)
        names = label_names(LABELS)
        return load_model(
            AutoModelForSequenceClassification, base_model, init=init, attention=attention, dtype=dtype, **names
        )

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Runs the model.

        Returns:
            Logits [batch, 3] for ``labels`` [batch]; of an encoder-decoder, by teacher forcing,
            [batch, target length, vocabulary] for ``labels`` [batch, target length].
        """
        inputs = model_inputs(model, batch)
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = decoder_inputs(model, batch["labels"])
        return model(**inputs).logits

    def metrics(self) -> MetricCollection:
        """Returns the accuracy; of an encoder-decoder, the exact match of greedy decoding."""
        return MetricCollection({"accuracy": Accuracy()})

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Counts each pair: whether it is right, and 1."""
        return examples_right(logits, batch["labels"])

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

    Columns: ``premise``, ``hypothesis`` and ``label`` (0 entailment, 1 neutral, 2 contradiction, or the word). If the
    base model is an encoder-decoder, rows become text to text. Where a decoder's tokenizer puts nothing between the two
    texts of a pair, a line break stands there. Of a pair that is too long the longer text is cut first.
    """

    task_class = XNLITask
    columns = ("premise", "hypothesis", "label")
    labels_of = "row"
    parallel = True

    @property
    def text_to_text(self) -> bool:
        """Whether the base model writes the label's word, rather than choosing among three classes."""
        return bool(load_config(self.tokenizer).is_encoder_decoder)

    def settings(self) -> dict[str, Any]:
        """Returns the length, the format, and what separates the texts of a pair where the tokenizer does not."""
        separator = {"separator": self.separator} if self.separator else {}
        return {**super().settings(), "text_to_text": self.text_to_text, **separator}

    @property
    def separator(self) -> str:
        """What precedes the hypothesis: a line break for a decoder whose tokenizer puts nothing there."""
        if self.text_to_text or not left_to_right(self.tokenizer):
            return ""
        encoded = load_tokenizer(self.tokenizer)("a", "a")
        texts = [text for text in encoded.sequence_ids() if text is not None]
        first = encoded.sequence_ids().index(0)
        return "\n" if encoded.sequence_ids()[first : first + len(texts)] == texts else ""

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that tokenises pairs."""
        read_label = label_reader(LABELS, features["label"])
        words = label_words(tokenizer) if self.text_to_text else None
        separator = self.separator

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            labels = []
            for premise, hypothesis, label, number in zip(*(batch[c] for c in self.columns), numbers, strict=True):
                row = f"{where}, row {number} (counting from 0)"
                if not isinstance(premise, str) or not isinstance(hypothesis, str):
                    raise UserError(f"{row}: the premise or the hypothesis is not a string.")
                labels.append(read_label(label, row))
            premises, hypotheses = list(batch["premise"]), list(batch["hypothesis"])
            if words is None:
                second = [f"{separator}{text}" for text in hypotheses]
                encoded = tokenizer(premises, second, truncation="longest_first", max_length=self.max_length)
            else:
                pairs = zip(premises, hypotheses, strict=True)
                encoded = tokenizer([source_text(*pair) for pair in pairs], truncation=True, max_length=self.max_length)
            kept = [i for i in range(len(numbers)) if premises[i].strip() or hypotheses[i].strip()]
            if len(kept) < len(numbers):
                left_out["rows without any text"] += len(numbers) - len(kept)
            return labelled(encoded, labels if words is None else [words[label] for label in labels], numbers, kept)

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the tokenised columns; ``labels`` is a number, or the tokens of the label's word."""
        labels = datasets.List(datasets.Value("int32")) if self.text_to_text else datasets.Value("int8")
        return datasets.Features({**self.input_features(tokenizer), "labels": labels})


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Returns what the decoder reads to write ``labels`` [batch, length]: each token's input is the one before it.

    A model knows how it was trained, if it says so. One that does not, such as M2M-100, starts with the token that its
    configuration names.
    """
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return cast(Tensor, model.prepare_decoder_input_ids_from_labels(labels))
    shifted = F.pad(labels[:, :-1], (1, 0), value=model.config.decoder_start_token_id)
    return shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)


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
