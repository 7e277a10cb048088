"""The rows of a language, or of a mixture of languages, on their way to batches: tokenised once, grouped by length."""

import copy
from functools import cached_property
from typing import Any, ClassVar, Self

import datasets
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from lnsub.common.bounds import Count, Fraction, Length, Multiple, Seed, Workers, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.signals import shield_data_worker
from lnsub.data.batching import WINDOW, BatchedRows, Collator, LengthGroupedBatches
from lnsub.data.loaders import ResumableLoader, ShieldedLoader
from lnsub.data.mixture import apportion, balanced, drawn, parts_of, shares_of
from lnsub.data.tokenised import TokenisedRows, mark_tokens
from lnsub.models.pretrained import load_tokenizer

GPU_MULTIPLE = 16
"""Widths of batches on a GPU: eight of them up to 128 tokens, for as many CUDA graphs and compiled shapes."""


class LanguageRows(TokenisedRows, LightningDataModule):
    """The rows of one language, or of a mixture of languages, tokenised once, in batches of like length.

    Args:
        language: the language's code: a sub-folder of the data folder, or part of the Hub configuration's name. Codes
            joined by ``+``, such as ``en+fa+fr+zh``, are a mixture.
        tokenizer: the base model's folder or name on the Hub.
        dataset: data folder (``<folder>/<language>/<split>.parquet``, ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or
            ``.conllu``, in shards, packed by gzip, saved by ``datasets``, or as downloaded from the Hub; see
            :mod:`lnsub.data.layouts`) or name on the Hub; None takes the task's own data set.
        max_length: longest input in tokens, special tokens included; what is beyond is cut off.
        max_train_examples: use only this many rows of the train split, drawn once for all runs; parallel
            languages get the same rows. None uses all. Of a mixture: this many in all, drawn once for a seed, of each
            language other rows.
        max_eval_examples: the same for the validation and test splits; of a mixture, for each of its languages.
        batch_size: rows in a training batch, per process.
        tokens_per_batch: instead of ``batch_size``, the most tokens in a padded training batch, per process.
        eval_tokens_per_batch: the most tokens in a padded batch of validation, test and prediction, per process.
        num_workers: loader processes. 0 is fastest, as nothing is tokenised then: the main process makes the batches,
            for a GPU in a thread of its own.
        seed: seed of the order of training batches, and of whatever else a task draws; None: that of the module that
            it is used with.
        pad_to_multiple_of: round padded lengths up to a multiple of this, but not beyond ``max_length``; None: 16 when
            a trainer runs on a GPU, which suits its tensor cores and makes few shapes of batches, otherwise 1.
        group_window: ``batch_size`` rows of like length make a batch, out of what was drawn at random for so many
            batches; 1: batches are random as they stand, which ``model.attention: packed`` makes as fast.
        shares: each language's share of a mixture's training rows, in the mixture's order; None: equal shares.

    Attributes:
        part_of: the mixture that this is a part of; None for data that stands alone.

    Raises:
        UserError: an argument is out of range. What is wrong with the data is said when it is first read.
    """

    in_all: ClassVar[tuple[str, ...]] = ("max_train_examples",)
    """The limits that are divided among the parts of a mixture by their shares."""

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
        pad_to_multiple_of: Multiple | None = None,
        group_window: Count = WINDOW,
        shares: list[Fraction] | None = None,
    ) -> None:
        super().__init__()
        # With fewer rows than processes some process has nothing to evaluate, which is no error.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        check_numbers(hints_of(type(self)), locals())
        self.language = plain_name("language", language)
        self.shares = shares_of(self.language, shares)
        self.part_of: str | None = None
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
        self._tables: dict[tuple[str, int | None], datasets.Dataset] = {}

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

    # Languages

    @cached_property
    def parts(self) -> "tuple[Self, ...]":
        """Of a mixture, the data of each of its languages on its own; empty for a single language.

        A part's validation and test splits are those of that language alone; of its train split the mixture uses what
        the shares say.
        """
        return tuple(self._part(language, place) for place, language in enumerate(parts_of(self.language)))

    def _part(self, language: str, place: int) -> Self:
        part = copy.copy(self)
        for made in ("source", "parts"):
            part.__dict__.pop(made, None)
        part.language, part.part_of, part.shares, part.trainer = language, self.language, (), None
        part._tables = {}
        for limit in self.in_all:
            setattr(part, limit, self._portion(limit, place))
        return part

    def _portion(self, limit: str, place: int) -> int | None:
        """A part's portion of a limit that is for the mixture in all."""
        total = getattr(self, limit)
        if total is None:
            return None
        counts = apportion(total, self.shares)
        if not all(counts):
            raise UserError(
                f"{limit} is {total}, which leaves nothing of some language of '{self.language}': give more, or other"
                " shares."
            )
        return counts[place]

    @property
    def metric_suffix(self) -> str:
        """What the logged names of metrics end with: ``/en`` for that part of a mixture, nothing for other data."""
        return f"/{self.language}" if self.part_of else ""

    def check(self) -> None:
        """Raises a UserError if the data set lacks a language, without fetching anything but names."""
        for data in self.parts or (self,):
            data.open()

    def splits(self) -> list[str]:
        """Returns the splits there are; of a mixture, those that all of its languages have."""
        found = [data.source.splits() for data in self.parts or (self,)]
        return [split for split in found[0] if all(split in other for other in found)]

    def table(self, split: str) -> datasets.Dataset:
        """Returns a split's tokenised rows, memory-mapped from the cache, which is filled if it lacks them.

        Those of a mixture are its parts' rows, one language after the other. Its train split holds the shares: as many
        rows as that allows, drawn once for a seed. Its validation and test splits hold all rows of its parts.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Raises:
            UserError: there is no such language, split or column, or a row is not what the task needs.
        """
        # Only the rows of a mixture depend on the seed, which a trainer may have changed.
        key = (split, self.seed if self.parts and split == "train" else None)
        if key not in self._tables:
            limit = self.max_train_examples if split == "train" else self.max_eval_examples
            self._tables[key] = self._mixed(split) if self.parts else self.tokenised(split, limit)
        return self._tables[key]

    def _mixed(self, split: str) -> datasets.Dataset:
        if split != "train":
            return datasets.concatenate_datasets([part.table(split) for part in self.parts])
        seed = self.seed
        tables = [part.tokenised(split, part.max_train_examples, seed) for part in self.parts]
        counts = balanced([len(table) for table in tables], self.shares)
        if not all(counts):
            raise UserError(
                f"The languages of '{self.language}' have {', '.join(str(len(table)) for table in tables)} rows, too"
                f" few to mix them by the shares {', '.join(f'{share:.3g}' for share in self.shares)}."
            )
        chosen = [
            table.select(drawn(count, np.arange(len(table)), part.language, seed), keep_in_memory=True)
            for table, count, part in zip(tables, counts, self.parts, strict=True)
        ]
        return datasets.concatenate_datasets(chosen)

    def tokens_in_use(self, size: int) -> NDArray[np.int64] | None:
        """Returns every token that a batch of training or validation may hold; None where that may be any.

        Args:
            size: that of the vocabulary.

        Returns:
            The tokens of the rows and the tokenizer's special ones, ascending.
        """
        own = LanguageRows.train_dataloader, LanguageRows.val_dataloader
        if (type(self).train_dataloader, type(self).val_dataloader) != own:
            return None
        tokenizer = load_tokenizer(self.tokenizer)
        collators = [self.collator(tokenizer, training=training) for training in (True, False)]
        if not all(type(each) is Collator or getattr(each, "keeps_tokens", False) for each in collators):
            return None
        seen = np.zeros(size, dtype=np.bool_)
        seen[[token for token in tokenizer.all_special_ids if token < size]] = True
        for split in ("train", "validation"):
            mark_tokens(self.table(split), seen)
        return np.flatnonzero(seen)

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
            return ["train", "validation", *(["test"] if "test" in self.splits() else [])]
        if stage == "predict":
            return ["test" if "test" in self.splits() else "validation"]
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

    @property
    def multiple(self) -> int:
        """What padded lengths are rounded up to."""
        return self.pad_to_multiple_of or (GPU_MULTIPLE if self.trainer is not None and self._for_gpu else 1)

    @property
    def _for_gpu(self) -> bool:
        """Whether batches go to a GPU; without a trainer, whether there is one to go to."""
        return torch.cuda.is_available() if self.trainer is None else self.trainer.strategy.root_device.type == "cuda"

    def _loader_arguments(self, split: str, *, training: bool) -> dict[str, Any]:
        table = self.table(split)
        by_tokens = self.tokens_per_batch if training else self.eval_tokens_per_batch
        sampler = LengthGroupedBatches(
            # Not of table.data, which has the rows that a mixture leaves out too.
            table.select_columns("length").with_format("arrow")[:]["length"].to_numpy(),
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
            "pin_memory": self._for_gpu,
        }
