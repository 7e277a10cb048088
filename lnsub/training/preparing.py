"""`lnsub prepare`: fetches what a run needs from the network, and tokenises its rows, before the run starts.

Compute nodes often have no network, and runs that start together would each tokenise the same rows. The receipt that is
left says what is there: how many rows and tokens, from which the length of a run is estimated, and in which files.
"""

import logging
from pathlib import Path

import datasets
import numpy as np

from lnsub.data.receipts import Receipt, receipt_path
from lnsub.models.pretrained import looks_local
from lnsub.training.config import RunConfig

log = logging.getLogger(__name__)


def prepare(config: RunConfig, language: str, folder: Path, *, fetch_only: bool = False) -> Path:
    """Fetches the base model and one language's data, and tokenises the data.

    Args:
        config: the settings of a run.
        language: the language or mixture, instead of that of the settings.
        folder: where the receipt goes.
        fetch_only: leave the tokenising to a machine without network.

    Returns:
        The receipt; see :mod:`lnsub.data.receipts`.

    Raises:
        UserError: the model or the data cannot be had, or a row is not what the task needs.
    """
    data = config.data_module(language)
    base_model = config.model["base_model"]
    if fetch_only and not looks_local(base_model):
        data.task.build(base_model)
    rows: dict[str, int] = {}
    tokens: dict[str, int] = {}
    files: list[str] = []
    for split in ["train", "validation", *(["test"] if "test" in data.splits() else [])]:
        if fetch_only:
            for part in data.parts or (data,):
                source, _ = part.choose(part.source, split)
                rows[split] = rows.get(split, 0) + len(part.source.read(source))
            continue
        table = data.table(split)
        rows[split], tokens[split] = len(table), _tokens(table)
        files += [file["filename"] for file in table.cache_files]
    receipt = Receipt(
        data.task.name, language, base_model, data.dataset, fetch_only, rows, tokens, list(dict.fromkeys(files))
    )
    path = receipt_path(folder, data.task.name, language, config.seed_everything, fetched=fetch_only)
    receipt.write(path)
    log.info(f"{data.task.name} {language}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} rows")
    return path


def _tokens(table: datasets.Dataset) -> int:
    return int(np.sum(table.select_columns("length").with_format("arrow")[:]["length"].to_numpy(), dtype=np.int64))
