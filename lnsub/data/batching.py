"""Batches without wasted padding: which rows go together, in which order, and how they become tensors.

A batch is padded to its longest row, so rows of similar length belong together; but training must still see random
batches. :class:`LengthGroupedBatches` draws a random order, sorts by length only within windows of many batches, and
shuffles the batches. The order is a pure function of the seed and the epoch, the same in every process.

The sampler yields whole batches, so the loader is made with ``batch_size=None``::

    DataLoader(BatchedRows(table, collator), sampler=LengthGroupedBatches(lengths, batch_size=32), batch_size=None)
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lnsub.models.languages import LANG_IDS

IGNORED = -100
"""The label of positions that neither the loss nor a metric counts."""

WINDOW = 100
"""Batches in a window of :class:`LengthGroupedBatches`: enough for little padding, few enough for random batches."""

# When an evaluation batch ends (see the class): on WikiANN, padding falls from 22 to 66 % of tokens to 5 %.
_ALIKE = 0.9
_SIXTEENTH = 16


class BatchRows(NamedTuple):
    """One batch, before its rows are read.

    Attributes:
        epoch: the epoch that the batch belongs to, for what is drawn anew in each, such as MLM's masks.
        rows: positions in the table, int64 [batch].
    """

    epoch: int
    rows: NDArray[np.int64]


class LengthGroupedBatches(DistributedSampler[BatchRows]):
    """A sampler that yields whole batches of rows of similar length; each process gets its own.

    It is a ``DistributedSampler`` so that Lightning sets its epoch and leaves it in place under DDP.

    Training (``shuffle=True``): every row once an epoch, in an order that depends on ``(seed, epoch)`` alone. With
    ``batch_size``, rows are drawn at random into windows of ``window`` batches and grouped by length (ties at random)
    within them. With ``tokens_per_batch`` the window is the whole epoch, because the number of batches must not change
    from epoch to epoch. Either way the batches are then shuffled, and each batch is divided among the processes so that
    lengths balance; all make the same number of steps. Rows are repeated only where the last batch has fewer rows than
    there are processes.

    Evaluation (``shuffle=False``): every row exactly once over all processes, longest first; a batch that has a
    sixteenth of its token budget ends where rows become shorter than 0.9 of its longest. The number of batches is the
    same in all processes unless there are fewer rows than processes.

    Args:
        lengths: tokens in each row, [rows].
        batch_size: rows in a batch, per process. Exactly one of this and ``tokens_per_batch``.
        tokens_per_batch: the most tokens in a padded batch (rows times the longest), per process. A row that is longer
            than that is a batch of its own.
        shuffle: True for training, False for evaluation.
        seed: seed of the order.
        num_replicas: number of processes; None asks ``torch.distributed`` (1 if that is not in use).
        rank: number of this process, from 0; None asks ``torch.distributed``.
        window: batches of ``batch_size`` in a window; 1 leaves every batch as it was drawn, longest row first.

    Attributes:
        first_batch: batches of the current epoch to skip, to resume in the middle of it; :meth:`set_epoch` to another
            epoch resets it to 0. ``len()`` counts the whole epoch all the same.

    Raises:
        ValueError: there are no rows, or not exactly one of ``batch_size`` and ``tokens_per_batch`` is given.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        window: int = WINDOW,
    ) -> None:
        if len(lengths) == 0:
            raise ValueError("no rows to make batches of")
        if (batch_size is None) == (tokens_per_batch is None):
            raise ValueError("give one of batch_size and tokens_per_batch")
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        num_replicas = num_replicas or (torch.distributed.get_world_size() if distributed else 1)
        if rank is None:
            rank = torch.distributed.get_rank() if distributed else 0
        self.lengths = np.asarray(lengths, dtype=np.int64)
        super().__init__(self.lengths, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.tokens_per_batch = tokens_per_batch
        self.window = window
        self.first_batch = 0
        self._length = len(self._batches())

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order the next pass has."""
        if epoch != self.epoch:
            self.first_batch = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Returns the batches of one epoch in this process."""
        return self._length

    def __iter__(self) -> Iterator[BatchRows]:
        # A generator, so that the order is made at the first batch: Lightning sets the epoch after it calls iter().
        for rows in self._batches()[self.first_batch :]:
            yield BatchRows(self.epoch, rows)

    def _batches(self) -> list[NDArray[np.int64]]:
        return self._training_batches() if self.shuffle else self._evaluation_batches()

    def _training_batches(self) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths))
        batches = [batch for window in self._windows(order) for batch in self._cut(self._longest_first(window))]
        shuffled = (batches[i] for i in rng.permutation(len(batches)))
        world = self.num_replicas
        return [(np.resize(batch, world) if len(batch) < world else batch)[self.rank :: world] for batch in shuffled]

    def _evaluation_batches(self) -> list[NDArray[np.int64]]:
        batches = self._cut(self._longest_first(np.arange(len(self.lengths))), together=1)
        # With equal numbers of batches the ranks' collective operations stay paired, and no rank is left without any.
        while len(batches) % self.num_replicas:
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            if len(batches[largest]) == 1:
                break
            batches[largest : largest + 1] = np.array_split(batches[largest], 2)
        return batches[self.rank :: self.num_replicas]

    def _windows(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.batch_size is None:
            return [order]
        together = self.batch_size * self.num_replicas
        batches = math.ceil(len(order) / together)
        windows = max(1, round(batches / self.window))
        return np.split(order, [batches * i // windows * together for i in range(1, windows)])

    def _longest_first(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows[np.argsort(-self.lengths[rows], kind="stable")]

    def _cut(self, rows: NDArray[np.int64], together: int | None = None) -> list[NDArray[np.int64]]:
        """Cuts rows, sorted longest first, into the batches of ``together`` processes (default: all)."""
        together = together or self.num_replicas
        if self.batch_size is not None:
            # The batch that is not full comes first: the longest rows differ most in length, so there it wastes least.
            step = self.batch_size * together
            return np.split(rows, range(len(rows) % step or step, len(rows), step))
        assert self.tokens_per_batch is not None
        batches = []
        start = 0
        while start < len(rows):
            longest = max(1, int(self.lengths[rows[start]]))
            count = max(1, self.tokens_per_batch // longest)
            if not self.shuffle:
                alike = int(np.searchsorted(-self.lengths[rows[start:]], -_ALIKE * longest, side="right"))
                count = min(count, max(alike, self.tokens_per_batch // (_SIXTEENTH * longest)))
            batches.append(rows[start : start + count * together])
            start += count * together
        return batches


class BatchedRows(Dataset[dict[str, Tensor]]):
    """A table whose items are batches: given a :class:`BatchRows`, it reads those rows at once and collates them.

    Args:
        table: the tokenised rows.
        collate: makes a batch of tensors of the rows' columns.
    """

    def __init__(self, table: datasets.Dataset, collate: Callable[[pa.Table, BatchRows], dict[str, Tensor]]) -> None:
        self.table = table.with_format("arrow")
        self.collate = collate

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.table)

    def __getitem__(self, batch: BatchRows) -> dict[str, Tensor]:
        """Returns those rows' batch, with ``slots`` (:mod:`lnsub.models.packing`), and languages where they count."""
        tensors = self.collate(rows := self.table[batch.rows], batch)
        if LANG_IDS in rows.column_names:
            tensors[LANG_IDS] = torch.tensor(rows[LANG_IDS].to_numpy())
        tensors["slots"] = tensors["attention_mask"].flatten().nonzero().squeeze(1)
        return tensors


def ragged(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Splits a column of lists into its concatenated values, [sum of lengths], and the lists' lengths, [rows]."""
    lists = column.combine_chunks()
    return lists.flatten().to_numpy(), lists.value_lengths().to_numpy().astype(np.int64)


def pad(
    values: NDArray[Any], lengths: NDArray[np.int64], fill: int, multiple: int = 1, widest: int | None = None
) -> Tensor:
    """Pads rows on the right to the length of the longest, in one vectorised step.

    Args:
        values: the rows' concatenated values, [sum of lengths].
        lengths: the rows' lengths, [rows].
        fill: the value of the padding.
        multiple: round the width up to a multiple of this.
        widest: do not round beyond this; None: no limit. Longer rows are kept whole.

    Returns:
        int64 [rows, width].
    """
    longest = int(lengths.max())
    width = -(-longest // multiple) * multiple
    if widest is not None:
        width = max(longest, min(width, widest))
    padded = np.full((len(lengths), width), fill, dtype=np.int64)
    padded[np.arange(width) < lengths[:, None]] = values
    return torch.from_numpy(padded)


@dataclass(frozen=True)
class Collator:
    """Turns tokenised rows into a batch of int64 tensors.

    The batch has ``input_ids`` and ``attention_mask`` [batch, length], ``token_type_ids`` where the rows have them,
    ``index`` [batch], and ``labels``: [batch] for a column of numbers, [batch, length of the longest] padded
    with :data:`IGNORED` for a column of lists.

    Args:
        pad_id: the tokenizer's padding token.
        multiple: round the padded length up to a multiple of this.
        widest: rounding stops at this length, the most that a model may take; None: nowhere.
    """

    pad_id: int
    multiple: int = 1
    widest: int | None = None

    def pad(self, values: NDArray[Any], lengths: NDArray[np.int64], fill: int) -> Tensor:
        """Pads rows as :func:`pad` does, to this collator's widths."""
        return pad(values, lengths, fill, self.multiple, self.widest)

    def __call__(self, columns: pa.Table, batch: BatchRows) -> dict[str, Tensor]:
        """Returns the batch made of ``columns``, the rows that ``batch`` names."""
        ids, lengths = ragged(columns["input_ids"])
        tensors = {
            "input_ids": self.pad(ids, lengths, self.pad_id),
            "attention_mask": self.pad(np.ones_like(ids), lengths, 0),
            "index": torch.from_numpy(columns["index"].to_numpy().astype(np.int64)),
        }
        if "token_type_ids" in columns.column_names:
            tensors["token_type_ids"] = self.pad(ragged(columns["token_type_ids"])[0], lengths, 0)
        labels = columns["labels"]
        if pa.types.is_list(labels.type):
            tensors["labels"] = self.pad(*ragged(labels), IGNORED)
        else:
            tensors["labels"] = torch.from_numpy(labels.to_numpy().astype(np.int64))
        return tensors
