"""One split of a data set, without fetching the others: WMT14's training split is ten thousand times its test split."""

from collections.abc import Sequence

import datasets

from lnsub.common.errors import UserError
from lnsub.common.names import looks_local
from lnsub.data.formats import check_columns, reason
from lnsub.data.rows import HubRows, open_rows


def read_split(dataset: str, configuration: str, split: str, choices: Sequence[Sequence[str]]) -> datasets.Dataset:
    """Reads columns of one split.

    Args:
        dataset: a folder or a Hub id, as :func:`lnsub.data.rows.open_rows` takes it.
        configuration: the configuration, or the sub-folder.
        split: the split.
        choices: sets of columns; the first that the split has is read.

    Raises:
        UserError: there is no such data set, configuration or split, it cannot be fetched, or it has no such columns.
    """
    if not looks_local(dataset):
        rows = _fetched(dataset, configuration, split)
        if rows is None:
            rows = HubRows(dataset, configuration, choices[0]).read(split)
        names = rows.column_names
        chosen = next((columns for columns in choices if set(columns) <= set(names)), choices[0])
        check_columns(f"The {split} split of '{dataset}' ({configuration})", chosen, names)
        return rows.select_columns(list(chosen))
    source = open_rows(dataset, configuration, choices[0])
    source.require(split)
    try:
        return source.read(split)
    except UserError:
        if len(choices) == 1:
            raise
        return open_rows(dataset, configuration, choices[1]).read(split)


def _fetched(dataset: str, configuration: str, split: str) -> datasets.Dataset | None:
    """The split alone, where its files are named as ``push_to_hub`` names them; None where they are not."""
    files = {split: f"{configuration}/{split}-*"}
    try:
        # The data set's card lists the sizes of all splits, of which this is one.
        return datasets.load_dataset(dataset, data_files=files, split=split, verification_mode="no_checks")
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(f"'{dataset}' ({configuration}) cannot be read: {reason(error)}") from error
    except (ValueError, OSError, RuntimeError):
        return None
