"""The cache of tokenised rows: each split is tokenised once, kept on disk and memory-mapped from there.

Files are in the datasets cache (``HF_DATASETS_CACHE``), under a name made of the source's content, the tokenizer's and
the settings, so that every round, run and process that asks for the same rows finds them. Beside each is its checksum
(``<name>.arrow.sha256``), without which a flipped bit would be trained on.
"""

import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from lnsub.common.files import make_folder, replacing, write_errors

log = logging.getLogger(__name__)

CACHE_VERSION = 2
"""To be raised whenever tokenised rows would come out differently, so that older files are not used."""

_LONG = 100_000
"""Rows from which tokenising takes long enough for a progress bar."""

_ABANDONED = 7 * 24 * 3600.0
"""Seconds after which a half-written table is nobody's any more; each batch of rows is a write."""

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


def is_whole(path: Path) -> bool:
    """Whether a table is in the cache as it was written; a remark says so where it is there but not whole.

    The file is read through once: its checksum is SHA-256, which processors compute at 1 to 2 GB/s, faster than what
    else hashlib has. While the file keeps its size and times, this process does not read it through again.

    Args:
        path: what :func:`cache_file` returned.
    """
    if not path.exists():
        return False
    seen = _identity(path)
    if seen in _checked:
        return True
    try:
        written = _checksum_file(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        log.warning("%s has no checksum beside it, so its rows are tokenised again", path)
        return False
    if written != _checksum(path):
        log.warning("%s is damaged: its checksum does not fit, so its rows are tokenised again", path)
        return False
    _checked.add(seen)
    return True


_checked: set[tuple[object, ...]] = set()
"""The tables that this process has read through."""


def _identity(path: Path) -> tuple[object, ...]:
    found = path.stat()
    return (str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def fill(
    path: Path,
    rows: datasets.Dataset,
    numbers: NDArray[np.int64],
    encode: Encoder,
    features: datasets.Features,
    title: str,
) -> int:
    """Tokenises rows into a file, which is whole or not there, and puts its checksum beside it.

    Args:
        path: what :func:`cache_file` returned.
        rows: the split as the source has it.
        numbers: the rows to take, in order, int64 [n].
        encode: the tokenising function.
        features: types of the columns that it returns.
        title: what the progress bar says.

    Returns:
        How many rows the file has; with none there is no file.

    Raises:
        UserError: it cannot be written, for example because the disk is full.
    """
    part = path.with_name(f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    if not np.array_equal(numbers, np.arange(len(rows))):
        rows = rows.select(numbers, keep_in_memory=True, new_fingerprint=path.stem)
    make_folder(path.parent)
    _sweep(path.parent)
    try:
        with write_errors(path), _bars_hidden(len(rows) < _LONG):
            # The fingerprint that datasets would make hashes the tokenizer, whose state changes with every call.
            table = rows.map(
                lambda batch, positions: encode(batch, numbers[positions].tolist()),
                batched=True,
                with_indices=True,
                remove_columns=rows.column_names,
                features=features,
                cache_file_name=str(part),
                new_fingerprint=path.stem,
                desc=title,
            )
        if len(table) == 0:
            return 0
        # The checksum first: other processes, which write the same bytes, then never see a table without it.
        with replacing(_checksum_file(path)) as file:
            file.write(f"{_checksum(part)}\n".encode())
        with write_errors(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _checked.add(_identity(path))
    return len(table)


def stopping(encode: Encoder, most: int, skipped: int = 0) -> Encoder:
    """Makes an encoder that stops tokenising once it has made ``most`` rows; it goes through its input once.

    Args:
        encode: the encoder.
        most: how many rows.
        skipped: how many it makes before and leaves out.
    """
    made = 0

    def encode_some(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
        nonlocal made
        # A row of the batch at least, which tells the columns.
        needed = batch if made < skipped + most else {column: values[:1] for column, values in batch.items()}
        encoded = encode(needed, numbers if made < skipped + most else numbers[:1])
        place = slice(max(skipped - made, 0), max(skipped + most - made, 0))
        kept = {column: values[place] for column, values in encoded.items()}
        made += len(next(iter(encoded.values())))
        return kept

    return encode_some


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed left half-written, once it is so old that nobody can be writing it."""
    for part in folder.glob("*.partial"):
        with suppress(OSError):  # another process has removed it
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()


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
