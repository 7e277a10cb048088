"""A tree of runs as one table."""

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lnsub.common.errors import UserError
from lnsub.runs.examples import FOLDER, file_name, files_in
from lnsub.runs.records import FILE_NAME, Record, read_counted, skipped_lines


def read_runs(root: str | Path) -> pd.DataFrame:
    """Reads the records of all runs below a folder.

    Args:
        root: the tree of runs.

    Returns:
        One row a record, in path order: the fields of :class:`~lnsub.runs.records.Record`, and ``run``, the folder
        that holds the record, relative to ``root``; and ``examples``, the file of what each example added to the
        metric (:mod:`lnsub.runs.examples`), None where there is none. Sparsities are rounded
        to six decimals, so that equal ones compare equal. A tree without records gives no rows, but all columns.
    """
    frame, problems = read_runs_noting(Path(root))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return frame


def read_runs_noting(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Reads the records of all runs below a folder as :func:`read_runs` does, but without its warnings.

    Returns:
        The table, and a sentence on each file of which something had to be left out.
    """
    rows: list[dict[str, Any]] = []
    problems = []
    for path in sorted(root.rglob(FILE_NAME)):
        try:
            records, skipped = read_counted(path)
        except (OSError, UserError) as error:
            problems.append(f"{path} cannot be read and is left out: {error}")
            continue
        if skipped:
            problems.append(skipped_lines(path, skipped))
        run = path.parent.relative_to(root).as_posix()
        kept = files_in(path.parent)
        for record in records:
            name = file_name(record)
            examples = str(path.parent / FOLDER / name) if name in kept else None
            rows.append({"run": run, **vars(record), "examples": examples})
    frame = pd.DataFrame(rows, columns=["run", *(field.name for field in fields(Record)), "examples"])
    frame["sparsity"] = frame["sparsity"].astype(float).round(6)
    return frame, problems
