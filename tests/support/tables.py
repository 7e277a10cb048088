"""Tables of rows whose lengths differ as those of sentences do, and the batches that a sampler makes of them."""

import datasets
import numpy as np

from lnsub.data.batching import LengthGroupedBatches


def some_lengths(count: int, seed: int = 0) -> np.ndarray:
    """Skewed, as sentence lengths are."""
    return np.clip(np.random.default_rng(seed).gamma(2.0, 12.0, count).astype(int) + 4, 4, 128)


def rows_of(sampler: LengthGroupedBatches) -> list[list[int]]:
    return [batch.rows.tolist() for batch in sampler]


def table_of(count: int) -> datasets.Dataset:
    """Row i holds the tokens i, i, ... of some length, the label i and the index i."""
    lengths = some_lengths(count)
    return datasets.Dataset.from_dict(
        {
            "input_ids": [[i] * n for i, n in enumerate(lengths)],
            "labels": list(range(count)),
            "length": lengths,
            "index": list(range(count)),
        }
    )
