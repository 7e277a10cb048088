"""Tasks that tag words: a label on one piece of each word, a classifier over pieces."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import datasets
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded, Encoder
from lnsub.models.architecture import left_to_right
from lnsub.models.pretrained import Dtype, Init, load_model, load_tokenizer, refuse_encoder_decoder
from lnsub.tasks.labels import label_names, label_reader, labelled
from lnsub.tasks.task import LanguageDataModule, Task, model_inputs

Piece = Literal["first", "last"]
"""The piece of a word that has its label."""


class WordTask(Task):
    """One of :attr:`labels` for each word; a subclass adds its facts and :meth:`metrics`."""

    auto_class = "AutoModelForTokenClassification"
    pipeline = "token-classification"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa", dtype: Dtype = "float32"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with a classifier over each token; see :meth:`Task.build`."""
        refuse_encoder_decoder(base_model, self.name)
        names = label_names(self.labels)
        return load_model(
            AutoModelForTokenClassification, base_model, init=init, attention=attention, dtype=dtype, **names
        )

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Returns logits [batch, length, labels], aligned with ``labels`` [batch, length]."""
        return model(**model_inputs(model, batch)).logits

    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Returns each sentence's tags, and those predicted, one a word; words without a label are missing."""
        examples = zip(batch["index"].tolist(), batch["labels"].tolist(), logits.argmax(-1).tolist(), strict=True)
        return [
            {
                "index": index,
                "tags": [self.labels[tag] for tag in tags if tag != IGNORED],
                "predictions": [self.labels[guess] for tag, guess in zip(tags, row, strict=True) if tag != IGNORED],
            }
            for index, tags, row in examples
        ]


class TaggedWords(LanguageDataModule):
    """Sentences cut into words, with a tag for each.

    ``columns`` names the words' column and the tags' (numbers or names), lists of equal length; in ``.csv`` they are
    separated by spaces. A word's tag is on its first piece; of a model that reads from left to right on its last, where
    alone the model has seen the whole word. The other pieces, and special tokens, have no label. Words beyond
    ``max_length`` are dropped.
    """

    columns: ClassVar[tuple[str, str]]
    labels_of = "word"
    untagged: ClassVar[tuple[str | None, ...]] = ()
    """What stands in the place of a tag where a word has none; the word is read, but has no label."""

    def settings(self) -> dict[str, Any]:
        """Returns the length, and how this base model's words are read where that is not as BERT's."""
        last = {"labelled_piece": "last"} if left_to_right(self.tokenizer) else {}
        spaced = {"words": "spaced"} if needs_spaces(load_tokenizer(self.tokenizer)) else {}
        return {**super().settings(), **last, **spaced}

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that tokenises sentences and puts each word's tag on one of its pieces."""
        piece: Piece = "last" if left_to_right(self.tokenizer) else "first"
        spaced = needs_spaces(tokenizer)
        words_of, tags_of = self.columns
        read_tag = label_reader(self.task.labels, getattr(features[tags_of], "feature", None), self.untagged)

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            sentences, tags = [], []
            for number, words, tagged in zip(numbers, batch[words_of], batch[tags_of], strict=True):
                row = f"{where}, row {number} (counting from 0)"
                sentences.append(_listed(words, words_of, row))
                if not all(isinstance(word, str) for word in sentences[-1]):
                    raise UserError(f"{row}: {words_of} is not a list of strings.")
                tags.append([read_tag(tag, row) for tag in _listed(tagged, tags_of, row)])
                if len(sentences[-1]) != len(tags[-1]):
                    raise UserError(f"{row} has {len(sentences[-1])} {words_of} but {len(tags[-1])} tags.")
            read = [[f" {word}" if i else word for i, word in enumerate(words)] for words in sentences]
            encoded = tokenizer(
                read if spaced else sentences, is_split_into_words=True, truncation=True, max_length=self.max_length
            )
            pieces = [encoded.word_ids(i) for i in range(len(numbers))]
            labels = [on_pieces(piece, ids, row) for ids, row in zip(pieces, tags, strict=True)]
            kept = [i for i, row in enumerate(labels) if set(row) != {IGNORED}]
            if len(kept) < len(numbers):
                left_out["rows without any labelled token"] += len(numbers) - len(kept)
            if dropped := sum(len(sentences[i]) - len({*pieces[i]} - {None}) for i in kept):
                left_out[f"words beyond {self.max_length} tokens, or without any token"] += dropped
            return labelled(encoded, labels, numbers, kept)

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the tokenised columns; ``labels`` are as long as ``input_ids``."""
        return datasets.Features({**self.input_features(tokenizer), "labels": datasets.List(datasets.Value("int8"))})


def on_pieces(piece: Piece, word_ids: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """Puts each word's tag on one of its pieces.

    Args:
        piece: which one. A word that is cut off at the end has its last piece where it was cut.
        word_ids: the word that each token is a piece of; None for special tokens.
        tags: the words' tags.

    Returns:
        One label a token; :data:`~lnsub.data.batching.IGNORED` for special tokens and other pieces.
    """
    neighbours: Sequence[int | None] = [None, *word_ids[:-1]] if piece == "first" else [*word_ids[1:], None]
    return [
        IGNORED if word is None or word == other else tags[word]
        for word, other in zip(word_ids, neighbours, strict=True)
    ]


def needs_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words have to bring their own space, as those of Gemma, Qwen and BLOOM: else they would run together."""
    plain, spaced = (tokenizer([[word]], is_split_into_words=True)["input_ids"] for word in ("a", " a"))
    return bool(plain != spaced)


def _listed(value: Any, column: str, row: str) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list):
        raise UserError(f"{row}: {column} is not a list.")
    return value
