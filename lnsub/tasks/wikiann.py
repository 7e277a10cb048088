"""Named entities on WikiANN (Pan et al., 2017; splits of Rahimi et al., 2019, https://arxiv.org/abs/1902.00193)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from torch import Tensor
from torchmetrics import MetricCollection
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded, Encoder
from lnsub.models.pretrained import Init, load_model, refuse_encoder_decoder
from lnsub.tasks.labels import label_reader
from lnsub.tasks.metrics import EntityScore
from lnsub.tasks.task import LanguageDataModule, Task, model_inputs

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""The tags in the order of their numbers: after O, each type has an odd number for B- and the next for I-."""


class WikiANNTask(Task):
    """Which words name a person, an organisation or a place?"""

    name = "wikiann"
    title = "NER"
    metric = "f1"
    metric_title = "F1"
    dataset = "unimelb-nlp/wikiann"
    labels = TAGS
    auto_class = "AutoModelForTokenClassification"
    pipeline = "token-classification"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with a classifier of seven tags over each token; see :meth:`Task.build`."""
        refuse_encoder_decoder(base_model, "wikiann")
        return load_model(
            AutoModelForTokenClassification,
            base_model,
            init=init,
            attention=attention,
            id2label=dict(enumerate(TAGS)),
            label2id={tag: i for i, tag in enumerate(TAGS)},
        )

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Returns logits [batch, length, 7], aligned with ``labels`` [batch, length]."""
        return model(**model_inputs(model, batch)).logits

    def metrics(self) -> MetricCollection:
        """Returns the entity-level F1, precision and recall (micro), as seqeval computes them in strict IOB2."""
        scores = {score: EntityScore(score) for score in ("f1", "precision", "recall")}
        return MetricCollection(scores, compute_groups=[list(scores)])

    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Returns each sentence's tags, and those predicted, one a word; words beyond the length are missing."""
        examples = zip(batch["index"].tolist(), batch["labels"].tolist(), logits.argmax(-1).tolist(), strict=True)
        return [
            {
                "index": index,
                "tags": [TAGS[tag] for tag in tags if tag != IGNORED],
                "predictions": [TAGS[guess] for tag, guess in zip(tags, predicted, strict=True) if tag != IGNORED],
            }
            for index, tags, predicted in examples
        ]


class WikiANN(LanguageDataModule):
    """WikiANN, or any data set of words with the seven tags of :data:`TAGS`.

    Columns: ``tokens`` and ``ner_tags`` (numbers or names), lists of equal length; in ``.csv`` they are separated by
    spaces. A word's tag is that of its first piece; the other pieces, and special tokens, have no label. Words beyond
    ``max_length`` are dropped.
    """

    task_class = WikiANNTask
    columns = ("tokens", "ner_tags")

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that tokenises sentences and puts each word's tag on its first piece."""
        read_tag = label_reader(TAGS, getattr(features["ner_tags"], "feature", None))

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            sentences, tags = [], []
            for number, tokens, tagged in zip(numbers, batch["tokens"], batch["ner_tags"], strict=True):
                row = f"{where}, row {number} (counting from 0)"
                sentences.append(_listed(tokens, "tokens", row))
                tags.append([read_tag(tag, row) for tag in _listed(tagged, "ner_tags", row)])
                if len(sentences[-1]) != len(tags[-1]):
                    raise UserError(f"{row} has {len(sentences[-1])} tokens but {len(tags[-1])} tags.")
            encoded = tokenizer(sentences, is_split_into_words=True, truncation=True, max_length=self.max_length)
            labels = [first_pieces(encoded.word_ids(i), tags[i]) for i in range(len(numbers))]
            labelled = [sum(label != IGNORED for label in row) for row in labels]
            kept = [i for i, count in enumerate(labelled) if count]
            if len(kept) < len(numbers):
                left_out["rows without any token"] += len(numbers) - len(kept)
            if dropped := sum(len(tags[i]) - labelled[i] for i in kept):
                left_out[f"words beyond {self.max_length} tokens, or without any token"] += dropped
            columns = {
                key: [encoded[key][i] for i in kept] for key in ("input_ids", "token_type_ids") if key in encoded
            }
            return {
                **columns,
                "labels": [labels[i] for i in kept],
                "length": [len(labels[i]) for i in kept],
                "index": [numbers[i] for i in kept],
            }

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the tokenised columns; ``labels`` are as long as ``input_ids``."""
        return datasets.Features({**self.input_features(tokenizer), "labels": datasets.List(datasets.Value("int8"))})


def first_pieces(word_ids: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """Puts each word's tag on its first piece.

    Args:
        word_ids: the word that each token is a piece of; None for special tokens.
        tags: the words' tags.

    Returns:
        One label a token; :data:`~lnsub.data.batching.IGNORED` for special tokens and further pieces.
    """
    before: Sequence[int | None] = [None, *word_ids[:-1]]
    return [
        IGNORED if word is None or word == last else tags[word] for word, last in zip(word_ids, before, strict=True)
    ]


def _listed(value: Any, column: str, row: str) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list) or (column == "tokens" and not all(isinstance(item, str) for item in value)):
        raise UserError(f"{row}: {column} is not a list{' of strings' if column == 'tokens' else ''}.")
    return value
