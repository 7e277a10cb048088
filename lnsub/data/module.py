"""The rows of a language, or of a mixture of languages, on their way to batches: tokenised once, grouped by length."""

from typing import Any, Literal, Self

import datasets
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from lnsub.common.bounds import Count, CountOrZero, Fraction, Length, Multiple, Seed, Workers, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.signals import shield_data_worker
from lnsub.data.batching import WINDOW, BatchedRows, Collator, LengthGroupedBatches
from lnsub.data.loaders import ResumableLoader, ShieldedLoader
from lnsub.data.mixture import shares_of
from lnsub.data.tables import SplitTables
from lnsub.data.tokenised import mark_tokens
from lnsub.models.pretrained import load_tokenizer

GPU_MULTIPLE = 16
"""Widths of batches on a GPU: eight of them up to 128 tokens, for as many CUDA graphs and compiled shapes."""


class LanguageRows(SplitTables, LightningDataModule):
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
        seed: the run's seed; None: that of the module that it is used with.
        pad_to_multiple_of: round padded lengths up to a multiple of this, but not beyond ``max_length``; None: 16 when
            a trainer runs on a GPU, which suits its tensor cores and makes few shapes of batches, otherwise 1.
        group_window: ``batch_size`` rows of like length make a batch, out of what was drawn at random for so many
            batches; 1: batches are random as they stand, which ``model.attention: packed`` makes as fast.
        shares: each language's share of a mixture's training rows, in the mixture's order; None: equal shares.
        train_sample: which of the disjoint samples of ``max_train_examples`` rows to train on, counting from 0; None:
            the first.
        labels: ``shuffled`` gives each training row, or word, the label of another one drawn at random, as a control in
            which there is nothing to learn but the labels' frequencies. None: as they are.
        order_seed: seed of the order of training batches, where that is not ``seed``.
        subset_seed: seed of the choice of the rows of the train split; None: it is the same in every run, and for
            mixtures depends on ``seed``.

    Attributes:
        part_of: the mixture that this is a part of; None for data that stands alone.

    Raises:
        UserError: an argument is out of range. What is wrong with the data is said when it is first read.
    """

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
        train_sample: CountOrZero | None = None,
        labels: Literal["shuffled"] | None = None,
        order_seed: Seed | None = None,
        subset_seed: Seed | None = None,
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
        self.train_sample = train_sample
        if labels is not None and self.labels_of is None:
            raise UserError(f"labels is {labels}, but {self.name} has no labels beside the text: leave it out.")
        self.labels = labels
        self._order_seed = order_seed
        self.subset_seed = subset_seed
        self._tables: dict[tuple[str, int | None], datasets.Dataset] = {}

    def _part(self, language: str, place: int) -> Self:
        part = super()._part(language, place)
        part.trainer = None
        return part

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

    @property
    def order_seed(self) -> int:
        """Seed of the order of training batches, and of whatever else a task draws in training."""
        if self._order_seed is not None:
            return self._order_seed
        of_module = None if self.trainer is None else getattr(self.trainer.lightning_module, "order_seed", None)
        return self.seed if of_module is None else of_module

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
            seed=self.order_seed,
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
