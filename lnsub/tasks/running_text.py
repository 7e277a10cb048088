"""Running text as data: documents, some of them held out, joined and cut into blocks of one length."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from lnsub.common.bounds import Count, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.data.cache import Encoded, Encoder
from lnsub.data.drawing import SUBSET_SEED
from lnsub.data.rows import RowSource, open_rows
from lnsub.tasks.task import LanguageDataModule

HELD_OUT = 2000
"""The most documents that are held out for validation, unless another number is asked for."""


class Frame(NamedTuple):
    """The special tokens of a block."""

    before: Sequence[int]
    """At its start."""
    after: Sequence[int]
    """At its end."""
    between: Sequence[int]
    """Between two of its documents."""


class RunningText(LanguageDataModule):
    """Wikipedia, or any running text, in blocks.

    Its column is ``text``, one document a row. Documents are tokenised, joined with a separator between them and cut
    into blocks of ``max_length`` tokens, which are the rows of batches; nothing is discarded. Where there is no
    validation split (Wikipedia on the Hub), a fixed 1 % of the documents are held out for it.

    ``max_train_examples`` and ``max_eval_examples`` count documents, which differ in length from language to language.
    With limits of blocks every language has as many tokens.

    Args:
        snapshot: date of the Wikipedia dump on the Hub; ignored for a data folder.
        max_train_blocks: use only this many blocks of the train split, of documents in a random order that is the same
            in every run; of a mixture, in all. None uses all.
        max_eval_blocks: the same for the validation and test splits; of a mixture, for each of its languages.
        max_held_out: the most documents that are held out.
    """

    columns = ("text",)
    in_all = ("max_train_examples", "max_train_blocks")

    def __init__(
        self,
        *args: Any,
        snapshot: str = "20231101",
        max_train_blocks: Count | None = None,
        max_eval_blocks: Count | None = None,
        max_held_out: Count = HELD_OUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_numbers(hints_of(RunningText), locals())
        self.snapshot = snapshot
        self.max_train_blocks = max_train_blocks
        self.max_eval_blocks = max_eval_blocks
        self.max_held_out = max_held_out

    @abstractmethod
    def frame(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Returns the special tokens that a block gets."""

    def settings(self) -> dict[str, Any]:
        """Returns the length, and how many documents are held out where that is not what it usually is."""
        held_out = {} if self.max_held_out == HELD_OUT else {"held_out": self.max_held_out}
        return {**super().settings(), **held_out}

    def most_rows(self, split: str) -> int | None:
        """Returns the limit of blocks."""
        return self.max_train_blocks if split == "train" else self.max_eval_blocks

    def open(self) -> RowSource:
        """Opens the documents; on the Hub, a configuration is named by snapshot and language."""
        return open_rows(self.dataset, self.language, self.columns, prefix=f"{self.snapshot}.")

    def choose(self, source: RowSource, split: str) -> tuple[str, Any]:
        """Holds documents of the train split out if there is no validation split."""
        if split == "test" or "validation" in source.splits():
            return super().choose(source, split)
        source.require("train")

        def chosen(count: int) -> NDArray[np.int64]:
            if count < 2:
                raise UserError(
                    f"{source.where('train')} has one document and there is no validation split, for which one of the"
                    " train split's is held out: give a validation split, or cut the text into several documents."
                )
            return held_out(count, validation=split == "validation", most=self.max_held_out)

        return "train", chosen

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that cuts documents into blocks."""
        frame = self.frame(tokenizer)
        special = tuple(tokenizer.all_special_ids)

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            for text, number in zip(batch["text"], numbers, strict=True):
                if not isinstance(text, str):
                    raise UserError(
                        f"{where}, row {number} (counting from 0): the text is {text!r:.100}, not a string."
                    )
            documents = tokenizer(
                list(batch["text"]), add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            blocks = cut_into_blocks(documents, self.max_length, *frame, special)
            return {"input_ids": blocks, "length": [len(block) for block in blocks]}

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the columns; a block's number is its position in the table, its labels come later."""
        return datasets.Features(
            {"input_ids": datasets.List(datasets.Value("int32")), "length": datasets.Value("int32")}
        )


def cut_into_blocks(
    documents: Sequence[Sequence[int]],
    max_length: int,
    prefix: Sequence[int],
    suffix: Sequence[int],
    between: Sequence[int],
    special: Sequence[int],
) -> list[NDArray[np.int32]]:
    """Joins documents and cuts them into blocks.

    Args:
        documents: token ids of each document, without special tokens.
        max_length: tokens in a block; the last may be shorter.
        prefix: special tokens at the start of each block.
        suffix: special tokens at the end of each block.
        between: separator between two documents.
        special: tokens that no task predicts; a block of nothing else is left out.

    Returns:
        The blocks, in order, int32.
    """
    joined = chain.from_iterable(
        chain(between if i else (), tokens) for i, tokens in enumerate(filter(None, documents))
    )
    stream = np.fromiter(joined, dtype=np.int32)
    room = max_length - len(prefix) - len(suffix)
    pieces = (stream[start : start + room] for start in range(0, len(stream), room))
    return [
        np.concatenate([np.asarray(prefix, np.int32), piece, np.asarray(suffix, np.int32)])
        for piece in pieces
        if not np.isin(piece, special).all()
    ]


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Returns the special tokens that the tokenizer puts before and after a single text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    text = [i for i, flag in enumerate(special) if not flag]
    return ids[: text[0]], ids[text[-1] + 1 :]


def held_out(count: int, *, validation: bool, most: int = HELD_OUT) -> NDArray[np.int64]:
    """Returns the rows of a data set's only split that are for validation, or for training, in order.

    Args:
        count: rows in the split; 1 % of them, at least 1, are validation, the same in every run.
        validation: which of the two.
        most: the most rows that are validation.
    """
    size = min(most, max(1, math.ceil(count / 100)))
    order = np.random.default_rng(SUBSET_SEED).permutation(count)
    return np.sort(order[:size] if validation else order[size:])
