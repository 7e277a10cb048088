"""One language's rows of a data set on their way to batches: read, tokenised once, grouped by length."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from lnsub.common.bounds import Count, Length, Multiple, Seed, Workers, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.signals import shield_data_worker
from lnsub.data.batching import WINDOW, BatchedRows, Collator, LengthGroupedBatches, ResumableLoader, ShieldedLoader
from lnsub.data.cache import Encoder, cache_file, fill, is_whole
from lnsub.data.rows import RowSource, at_most, open_rows
from lnsub.models.pretrained import load_tokenizer, tokenizer_fingerprint

log = logging.getLogger(__name__)


class LanguageRows(LightningDataModule, ABC):
    """One language's rows of a data set, tokenised once, in batches of like length.

    Args:
        language: the language's code: a sub-folder of the data folder, or part of the Hub configuration's name.
        tokenizer: the base model's folder or name on the Hub.
        dataset: data folder (``<folder>/<language>/<split>.parquet``, ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or
            ``.conllu``, in shards, packed by gzip, saved by ``datasets``, or as downloaded from the Hub; see
            :mod:`lnsub.data.layouts`) or name on the Hub; None takes the task's own data set.
        max_length: longest input in tokens, special tokens included; what is beyond is cut off.
        max_train_examples: use only this many rows of the train split, drawn once for all runs; parallel
            languages get the same rows. None uses all.
        max_eval_examples: the same for the validation and test splits.
        batch_size: rows in a training batch, per process.
        tokens_per_batch: instead of ``batch_size``, the most tokens in a padded training batch, per process.
        eval_tokens_per_batch: the most tokens in a padded batch of validation, test and prediction, per process.
        num_workers: loader processes; 0 loads in the main process, which is enough as nothing is tokenised then.
        seed: seed of the order of training batches, and of whatever else a task draws; None: that of the module that
            it is used with.
        pad_to_multiple_of: round padded lengths up to a multiple of this; 8 suits tensor cores and gives
            ``torch.compile`` fewer shapes.
        group_window: ``batch_size`` rows of like length make a batch, out of what was drawn at random for so many
            batches; 1: batches are random as they stand, which ``model.attention: packed`` makes as fast.

    Raises:
        UserError: an argument is out of range. What is wrong with the data is said when it is first read.
    """

    columns: ClassVar[tuple[str, ...]]
    """Columns of the source that are read."""

    def __init__(
        self,
        language: str,
        tokenizer: str,
        dataset: str | None = None,
        max_length: Length = 128,
        max_train_examples: Count | None = None,
        max_eval_examples: Count | None = None,
        batch_size: Count = 32,
        tokens_per_batch: Count | None = None,
        eval_tokens_per_batch: Count = 16384,
        num_workers: Workers = 0,
        seed: Seed | None = None,
        pad_to_multiple_of: Multiple = 1,
        group_window: Count = WINDOW,
    ) -> None:
        super().__init__()
        # With fewer rows than processes some process has nothing to evaluate, which is no error.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        check_numbers(hints_of(type(self)), locals())
        self.language = plain_name("language", language)
        self.tokenizer = tokenizer
        self.dataset = self.default_dataset if dataset is None else dataset
        self.max_length = max_length
        self.max_train_examples = max_train_examples
        self.max_eval_examples = max_eval_examples
        self.batch_size = batch_size
        self.tokens_per_batch = tokens_per_batch
        self.eval_tokens_per_batch = eval_tokens_per_batch
        self.num_workers = num_workers
        self._seed = seed
        self.pad_to_multiple_of = pad_to_multiple_of
        self.group_window = group_window
        self._tables: dict[str, datasets.Dataset] = {}

    @property
    def seed(self) -> int:
        """The run's seed.

        Raises:
            UserError: the module that the trainer has was made with another one.
        """
        module = None if self.trainer is None else self.trainer.lightning_module
        of_module = getattr(module, "seed", None)
        if self._seed is not None and of_module not in {None, self._seed}:
            raise UserError(
                f"The data has the seed {self._seed}, the module {of_module}: a run has one, so give it to the module."
            )
        return self._seed or of_module or 0

    # What a subclass defines

    @property
    @abstractmethod
    def name(self) -> str:
        """What the rows are tokenised for: the start of the names of cache files, and part of what they depend on."""

    @property
    @abstractmethod
    def default_dataset(self) -> str:
        """The data set that is used unless another is named."""

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
        """Returns the function that makes tensors of a batch's rows."""
        return Collator(tokenizer.pad_token_id, self.pad_to_multiple_of)

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

    def table(self, split: str) -> datasets.Dataset:
        """Returns a split's tokenised rows, memory-mapped from the cache, which is filled if it lacks them.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Raises:
            UserError: there is no such language, split or column, or a row is not what the task needs.
        """
        if split not in self._tables:
            tokenizer = load_tokenizer(self.tokenizer)
            if self.max_length > tokenizer.model_max_length:
                raise UserError(
                    f"max_length is {self.max_length}, but '{self.tokenizer}' takes at most"
                    f" {tokenizer.model_max_length} tokens."
                )
            self._tables[split] = self._tokenised(split, tokenizer)
        return self._tables[split]

    def _tokenised(self, split: str, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
        origin, choice = self.choose(self.source, split)
        limit = self.max_train_examples if split == "train" else self.max_eval_examples
        facts = {
            "task": self.name,
            "source": self.source.fingerprint(origin),
            "split": split,
            "limit": limit,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            "settings": self.settings(),
        }
        path = cache_file(f"{self.name}-{self.language}-{split}", facts)
        if not is_whole(path):
            rows, where = self.source.read(origin), self.source.where(origin)
            numbers = at_most(limit, np.arange(len(rows)) if choice is None else choice(len(rows)))
            left_out: Counter[str] = Counter()
            encode = self.encoder(tokenizer, where, rows.features, left_out)
            features = self.encoded_features(tokenizer)
            count = fill(path, rows, numbers, encode, features, f"Tokenising {self.language} {split}")
            for what, number in left_out.items():
                log.info("%s: left out %d %s", where, number, what)
            if count == 0:
                raise UserError(f"{where} has no row from which the tokenizer of '{self.tokenizer}' makes any token.")
        return datasets.Dataset.from_file(str(path))

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Fills the cache for what the trainer is about to do, in one process; without a trainer, for all splits."""
        stage = self.trainer.state.fn if self.trainer is not None else None
        for split in self._splits(stage):
            self.table(split)

    def setup(self, stage: str | None = None) -> None:
        """Opens the tokenised splits of a stage.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``; None opens all splits there are.
        """
        for split in self._splits(stage):
            self.table(split)

    def _splits(self, stage: str | None) -> list[str]:
        if stage is None:
            return ["train", "validation", *(["test"] if "test" in self.source.splits() else [])]
        if stage == "predict":
            return ["test" if "test" in self.source.splits() else "validation"]
        return {"fit": ["train", "validation"], "validate": ["validation"], "test": ["test"]}[stage]

    def train_dataloader(self) -> ResumableLoader:
        """Returns shuffled batches of the train split."""
        return ResumableLoader(**self._loader_arguments("train", training=True))

    def val_dataloader(self) -> ShieldedLoader:
        """Returns the validation split, each row once over all processes."""
        return ShieldedLoader(**self._loader_arguments("validation", training=False))

    def test_dataloader(self) -> ShieldedLoader:
        """Returns the test split, each row once over all processes."""
        return ShieldedLoader(**self._loader_arguments("test", training=False))

    def predict_dataloader(self) -> ShieldedLoader:
        """Returns the test split, or the validation split where there is none."""
        (split,) = self._splits("predict")
        return ShieldedLoader(**self._loader_arguments(split, training=False))

    def _loader_arguments(self, split: str, *, training: bool) -> dict[str, Any]:
        table = self.table(split)
        by_tokens = self.tokens_per_batch if training else self.eval_tokens_per_batch
        sampler = LengthGroupedBatches(
            table.data.column("length").to_numpy(),
            batch_size=self.batch_size if by_tokens is None else None,
            tokens_per_batch=by_tokens,
            shuffle=training,
            seed=self.seed,
            num_replicas=None if self.trainer is None else self.trainer.world_size,
            rank=None if self.trainer is None else self.trainer.global_rank,
            window=self.group_window,
        )
        return {
            "dataset": BatchedRows(table, self.collator(load_tokenizer(self.tokenizer), training=training)),
            "sampler": sampler,
            "batch_size": None,
            # Its own: workers' seeds are drawn from it, which would otherwise advance the generator that dropout uses.
            "generator": torch.Generator(),
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": shield_data_worker,
            "pin_memory": torch.cuda.is_available(),
        }
