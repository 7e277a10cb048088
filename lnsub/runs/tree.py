"""A tree of runs as one table."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lnsub.runs.records import FILE_NAME, Record, read


def read_runs(root: str | Path) -> pd.DataFrame:
    """Reads the records of all runs below a folder.

    Args:
        root: the tree of runs.

    Returns:
        One row a record, in path order: the fields of :class:`~lnsub.runs.records.Record`, and ``run``, the folder
        that holds the record, relative to ``root``. Sparsities are rounded to six decimals, so that equal ones compare
        equal. A tree without records gives no rows, but all columns.
    """
    root = Path(root)
    rows: list[dict[str, Any]] = []
    for path in sorted(root.rglob(FILE_NAME)):
        run = path.parent.relative_to(root).as_posix()
        rows += [{"run": run, **vars(record)} for record in read(path)]
    frame = pd.DataFrame(rows, columns=["run", *(field.name for field in fields(Record))])
    frame["sparsity"] = frame["sparsity"].astype(float).round(6)
    return frame
