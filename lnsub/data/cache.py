"""The cache of tokenised rows: each split is tokenised once, kept on disk and memory-mapped from there.

Files are in the datasets cache (``HF_DATASETS_CACHE``), under a name made of the source's content, the tokenizer's and
the settings, so that every round, run and process that asks for the same rows finds them.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

CACHE_VERSION = 1
"""To be raised whenever tokenised rows would come out differently, so that older files are not used."""

_LONG = 100_000
"""Rows from which tokenising takes long enough for a progress bar."""

Encoded = dict[str, Sequence[Any] | NDArray[Any]]
"""Tokenised rows by column."""
Encoder = Callable[[Mapping[str, Sequence[Any]], Sequence[int]], Encoded]
"""Tokenises a batch of rows (values by column), given their numbers in the split; may return fewer or more rows."""


def cache_file(name: str, facts: Mapping[str, Any]) -> Path:
    """Returns the place of a table.

    Args:
        name: the start of the file's name, for people who look into the folder.
        facts: all that the tokenised rows depend on, JSON-able.
    """
    text = json.dumps({"version": CACHE_VERSION, **facts}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Path(datasets.config.HF_DATASETS_CACHE) / "lnsub" / f"{name}-{digest}.arrow"


def fill(
    path: Path,
    rows: datasets.Dataset,
    numbers: NDArray[np.int64],
    encode: Encoder,
    features: datasets.Features,
    title: str,
) -> int:
    """Tokenises rows into a file, which is whole or not there.

    Args:
        path: what :func:`cache_file` returned.
        rows: the split as the source has it.
        numbers: the rows to take, in order, int64 [n].
        encode: the tokenising function.
        features: types of the columns that it returns.
        title: what the progress bar says.

    Returns:
        How many rows the file has; with none there is no file.
    """
    if len(numbers) < len(rows):
        rows = rows.select(numbers, keep_in_memory=True, new_fingerprint=path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _bars_hidden(len(rows) < _LONG):
        # datasets writes to a temporary file and renames it, so other processes never see half a table. Its own
        # fingerprint would hash the tokenizer, whose state changes with every call.
        table = rows.map(
            lambda batch, positions: encode(batch, numbers[positions].tolist()),
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            features=features,
            cache_file_name=str(path),
            new_fingerprint=path.stem,
            desc=title,
        )
    if len(table) == 0:
        path.unlink(missing_ok=True)
    return len(table)


@contextmanager
def _bars_hidden(hidden: bool) -> Iterator[None]:
    """Hides the progress bars of datasets where ``hidden``, for work that is over in seconds."""
    hide = hidden and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()
