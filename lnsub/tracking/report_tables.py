"""A report's tables as W&B tables, in one run of the job type ``report`` for each tree of runs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lnsub.common.errors import UserError
from lnsub.tracking.client import possible_mode, user_message


def log_tables(tables: Mapping[str, pd.DataFrame], project: str, root: Path) -> None:
    """Logs tables under their names; a later report of the same tree replaces an earlier one.

    Args:
        tables: by name.
        project: ``project``, or ``entity/project``.
        root: the tree of runs, after which the W&B run is named.

    Raises:
        UserError: W&B cannot be reached or refuses.
    """
    import wandb

    entity, _, name = project.rpartition("/")
    where = root.resolve()
    try:
        run = wandb.init(
            project=name,
            entity=entity or None,
            id=f"report-{hashlib.sha256(str(where).encode()).hexdigest()[:8]}",
            name=f"report of {where.name}",
            job_type="report",
            tags=["report"],
            resume="allow",
            dir=where,
            mode=possible_mode(),
            reinit="finish_previous",
        )
        # A column may hold numbers, words and gaps, where a value is unknown.
        plain = {key: table.astype(object).where(table.notna(), None) for key, table in tables.items()}
        run.log({key: wandb.Table(dataframe=table, allow_mixed_types=True) for key, table in plain.items()})
        run.finish()
    except Exception as error:
        raise UserError(f"The page is there, but W&B did not take its tables ({user_message(error)}).") from error
