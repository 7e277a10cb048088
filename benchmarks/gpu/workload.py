"""The workload: a model of mBERT's exact shape on batches with XNLI's lengths, and the operations of a step."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig

from benchmarks.gpu.device import Device
from lnsub.data.batching import WINDOW, BatchedRows, Collator, LengthGroupedBatches
from lnsub.tasks.xnli import XNLITask

PAIRS = 392_702
"""XNLI's training pairs in each language (Conneau et al., 2018)."""
VALIDATION = 2_490
"""XNLI's validation pairs in each language."""
ROUNDS, EPOCHS = 10, 3
"""Of one run of IMP (Foroutan et al., 2022); each epoch ends with a validation."""
ROWS = 32
"""Rows in a batch: the recipe's."""
LONGEST = 128
PRUNABLE = 85_524_480


@dataclass(frozen=True)
class Settings:
    """The settings of all parts.

    Attributes:
        device: where.
        folder: of the model's configuration.
        quick: toy sizes.
        repeats: timed passes over the batches.
        cudnn: let attention take cuDNN's kernels.
    """

    device: Device
    folder: str
    quick: bool
    repeats: int
    cudnn: bool = False

    @property
    def task(self) -> XNLITask:
        """XNLI, which needs no tokenizer for training."""
        return XNLITask(self.folder)

    @property
    def longest(self) -> int:
        """The longest input in tokens."""
        return 16 if self.quick else LONGEST

    @property
    def rows(self) -> tuple[int, int]:
        """The recipe's batch size, and the larger one."""
        return (4, 8) if self.quick else (ROWS, 256)

    @property
    def batches(self) -> int:
        """Batches in one pass: a whole window of length-grouped batches, so that lengths are representative."""
        return 3 if self.quick else WINDOW


@contextmanager
def shape(quick: bool) -> Iterator[str]:
    """Writes the configuration of bert-base-multilingual-cased, in quick mode of a toy; returns its folder."""
    toy = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    with tempfile.TemporaryDirectory() as folder:
        BertConfig(vocab_size=300 if quick else 119_547, **(toy if quick else {})).save_pretrained(folder)
        yield folder


def xnli_lengths(settings: Settings, rows: int) -> NDArray[np.int64]:
    """The number of tokens of each pair in one window of batches.

    Log-normal, with the mean and standard deviation of the logarithms of 8,000 French pairs under XLM-R's tokenizer.
    """
    drawn = np.random.default_rng(0).lognormal(3.962, 0.470, settings.batches * rows)
    return np.clip(drawn, 5, settings.longest).astype(np.int64)


def make_table(settings: Settings, rows: int) -> datasets.Dataset:
    """Makes the tokenised pairs of one window of batches of ``rows`` examples: random tokens, the lengths of XNLI."""
    lengths = xnli_lengths(settings, rows)
    rng = np.random.default_rng(1)
    ids = [rng.integers(5, 290, length) for length in lengths]
    types = [(np.arange(length) > length * 2 // 3).astype(np.int8) for length in lengths]
    columns = {"input_ids": ids, "token_type_ids": types, "labels": rng.integers(0, 3, len(lengths))}
    return datasets.Dataset.from_dict({**columns, "index": np.arange(len(lengths)), "length": lengths})


def make_batches(settings: Settings, rows: int, multiple: int) -> list[dict[str, Tensor]]:
    """Makes one window's batches like the data modules: grouped by length, padded to a multiple.

    Args:
        settings: the sizes.
        rows: batch size.
        multiple: widths are rounded up to a multiple of it; the maximum length pads every batch to that.

    Returns:
        The batches; in pinned memory for a GPU.
    """
    read = BatchedRows(make_table(settings, rows), Collator(pad_id=0, multiple=multiple))
    batches = [read[batch] for batch in LengthGroupedBatches(xnli_lengths(settings, rows), batch_size=rows)]
    if settings.device.gpu:
        return [{name: tensor.pin_memory() for name, tensor in batch.items()} for batch in batches]
    return batches


def products(config: BertConfig, lengths: NDArray[np.int64]) -> float:
    """Floating-point operations of the matrix products of one forward and backward pass over the real tokens.

    Two operations per weight and token forward and four backward for the linear layers of the blocks; for attention,
    the scores and their product with the values. Padding, embeddings, the pooler, the head, recomputation and the
    optimizer are not counted.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    squares = float((lengths.astype(np.float64) ** 2).sum())
    return 6.0 * weights * float(lengths.sum()) + 12.0 * layers * width * squares
