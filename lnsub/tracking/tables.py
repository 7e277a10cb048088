"""A report's tables as W&B tables, in one run of the job type ``report`` for each tree of runs."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lnsub.common.errors import UserError
from lnsub.tracking.settings import mode

log = logging.getLogger(__name__)


def log_tables(tables: Mapping[str, pd.DataFrame], project: str, root: Path) -> None:
    """Logs tables under their names; a later report of the same tree takes the place of an earlier one.

    Args:
        tables: by name.
        project: ``project``, or ``entity/project``.
        root: the tree of runs, after which the W&B run is called.

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
            mode=mode(),
            reinit="finish_previous",
        )
        # Numbers, words and gaps stand in one column where a value is unknown.
        plain = {key: table.astype(object).where(table.notna(), None) for key, table in tables.items()}
        run.log({key: wandb.Table(dataframe=table, allow_mixed_types=True) for key, table in plain.items()})
        run.finish()
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"The page is there, but W&B did not take its tables ({reason}).") from error
