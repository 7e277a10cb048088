"""The rows of one language, tokenised once: what a task says of its rows, and the table that is made of them."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from lnsub.common.errors import UserError
from lnsub.data.batching import Collator
from lnsub.data.cache import Encoder, cache_file, fill, is_whole, stopping
from lnsub.data.drawing import FIRST, Draw
from lnsub.data.rows import RowSource, open_rows
from lnsub.models.languages import LANG_IDS, adapter_of, hears_language, tokenizer_of
from lnsub.models.pretrained import tokenizer_fingerprint

log = logging.getLogger(__name__)


class TokenisedRows(ABC):
    """One language's rows of a data set, tokenised for one task.

    Attributes:
        language: the language's code.
        tokenizer: the base model's folder or name on the Hub.
        dataset: the data folder or the name on the Hub.
        max_length: longest input in tokens.
    """

    language: str
    tokenizer: str
    dataset: str
    max_length: int

    columns: ClassVar[tuple[str, ...]]
    """Columns of the source that are read."""

    # What a subclass defines

    @property
    @abstractmethod
    def name(self) -> str:
        """What the rows are tokenised for: the start of the names of cache files, and part of what they depend on."""

    @property
    @abstractmethod
    def default_dataset(self) -> str:
        """The data set that is used unless another is named."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """What padded lengths are rounded up to."""

    @abstractmethod
    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that tokenises rows.

        Args:
            tokenizer: the tokenizer.
            where: names the split in messages.
            features: types of the source's columns.
            left_out: counts what the function leaves out, for the log.

        Returns:
            A function that returns the columns of :meth:`encoded_features`.
        """

    @abstractmethod
    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the tokenised columns: ``input_ids``, ``labels``, ``length``, ``index``, ..."""

    def most_rows(self, split: str) -> int | None:
        """Returns the most tokenised rows that a split may have; None: as many as come out of it.

        Where there is a limit, what the rows are made of is taken in a random order that is always the same.
        """
        return None

    def input_features(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Returns the types of the tokenised columns that all tasks with labelled rows share."""
        lists = [key for key in ("input_ids", "token_type_ids") if key in tokenizer.model_input_names]
        types = {"input_ids": "int32", "token_type_ids": "int8"}
        return {
            **{key: datasets.List(datasets.Value(types[key])) for key in lists},
            "length": datasets.Value("int32"),
            "index": datasets.Value("int64"),
        }

    def settings(self) -> dict[str, Any]:
        """Returns all that the tokenised rows depend on beside the source and the tokenizer, JSON-able."""
        return {"max_length": self.max_length}

    def collator(self, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> Collator:
        """Returns the function that makes tensors of a batch's rows.

        A class other than :class:`Collator` that puts no tokens into a batch but those of its rows, the padding and
        the tokenizer's special ones says so by ``keeps_tokens = True``: a fit then need not hold the embeddings of
        others.
        """
        return Collator(tokenizer.pad_token_id, self.multiple, self.max_length)

    def open(self) -> RowSource:
        """Opens the source; see :func:`~lnsub.data.rows.open_rows`."""
        return open_rows(self.dataset, self.language, self.columns)

    def choose(self, source: RowSource, split: str) -> tuple[str, Callable[[int], NDArray[np.int64]] | None]:
        """Chooses the rows that make up a split.

        Returns:
            The split of the source to read, and a function from its number of rows to the rows to use, or None for all.
        """
        source.require(split)
        return split, None

    # Tokenising

    @cached_property
    def source(self) -> RowSource:
        """The rows, opened at first use."""
        return self.open()

    def tokenised(self, split: str, limit: int | None, draw: Draw = FIRST) -> datasets.Dataset:
        """Returns a split's tokenised rows, memory-mapped from the cache, which is filled if it lacks them.

        Args:
            split: ``train``, ``validation`` or ``test``.
            limit: use only this many rows; None uses all.
            draw: how those are chosen.

        Raises:
            UserError: there is no such split or column, or a row is not what the task needs.
        """
        tokenizer = tokenizer_of(self.tokenizer, self.language)
        adapter = adapter_of(self.tokenizer, self.language)
        if self.max_length > tokenizer.model_max_length:
            raise UserError(
                f"max_length is {self.max_length}, but '{self.tokenizer}' takes at most"
                f" {tokenizer.model_max_length} tokens."
            )
        origin, choice = self.choose(self.source, split)
        facts: dict[str, Any] = {
            "task": self.name,
            "source": self.source.fingerprint(origin),
            "split": split,
            "limit": limit,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "settings": self.settings(),
        }
        if hears_language(tokenizer):
            facts["language"] = tokenizer.src_lang
        most = self.most_rows(split)
        if most is not None:
            facts["most"] = most
        if draw.sample or limit is not None or most is not None:
            facts |= draw.facts()
        path = cache_file(f"{self.name}-{self.language}-{split}", facts)
        if not is_whole(path):
            rows, where = self.source.read(origin), self.source.where(origin)
            numbers = np.arange(len(rows)) if choice is None else choice(len(rows))
            by_block = limit is None and most is not None
            numbers = (replace(draw, sample=0) if by_block else draw).rows(limit, numbers)
            left_out: Counter[str] = Counter()
            encode = self.encoder(tokenizer, where, rows.features, left_out)
            if most is not None:
                skipped = draw.sample * most if by_block else 0
                numbers = replace(draw, language=draw.language or "").order(numbers)
                encode = stopping(encode, most, skipped)
            features = self.encoded_features(tokenizer)
            count = fill(path, rows, numbers, encode, features, f"Tokenising {self.language} {split}")
            if most is not None and draw.sample and count < most:
                path.unlink(missing_ok=True)
                draw.check(most, count, "blocks")
            for what, number in left_out.items():
                log.info("%s: left out %d %s", where, number, what)
            if count == 0:
                raise UserError(f"{where} has no row from which the tokenizer of '{self.tokenizer}' makes any token.")
        table = datasets.Dataset.from_file(str(path))
        return table if adapter is None else table.add_column(LANG_IDS, np.full(len(table), adapter))


def mark_tokens(table: datasets.Dataset, seen: NDArray[np.bool_]) -> None:
    """Marks the tokens of tokenised rows, and of those that a mixture leaves out: to gather the others takes seconds.

    Args:
        table: the rows.
        seen: by token, [size of the vocabulary]; True is set where one occurs.
    """
    for chunk in table.data.column("input_ids").chunks:
        seen[chunk.flatten().to_numpy()] = True
