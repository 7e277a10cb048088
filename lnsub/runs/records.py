"""Measurements: one record each, one JSON line each, appended so that a crash loses nothing.

A run's folder (see :mod:`lnsub.runs.folder`) holds them in ``results.jsonl``; :func:`read_tree` reads a tree of runs.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lnsub.common.files import append_lines
from lnsub.version import __version__

FILE_NAME = "results.jsonl"


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        kind: what was done: ``imp`` (a round of iterative magnitude pruning), ``transfer`` (a ticket fine-tuned on a
            language), ``dense`` (fine-tuning without a ticket), ...
        task: the task's name.
        model: the base model, as the user named it.
        source: the language that the ticket was found on; None without a ticket.
        target: the language that was trained and measured on.
        sparsity: the pruned share of the prunable weights, as asked for, in [0, 1).
        score: the score that the ticket was selected by.
        init: ``pretrained`` or ``random``.
        seed: the run's seed.
        round: the round of the pruning loop, 0 dense; None outside it.
        split: the split that was measured on.
        metric: the metric's name.
        value: its value.
        n: examples measured on.
        wall_s: seconds that the fine-tuning took.
        ticket: the checksum of the mask that was trained under; None where dense.
        layer: for ``retrieval``: the hidden state that was compared, 0 for the embeddings.
        source_task: the task that the ticket was found on; None without a ticket, or in ``task``'s own pruning loop.
        source_seed: the seed of the run that it was found in; likewise.
        lnsub_version: the version that measured.
        time: when, in UTC, ISO 8601.
    """

    kind: str
    task: str
    model: str
    source: str | None
    target: str
    sparsity: float
    score: str | None
    init: str
    seed: int
    round: int | None
    split: str
    metric: str
    value: float
    n: int
    wall_s: float
    ticket: str | None
    layer: int | None = None
    source_task: str | None = None
    source_seed: int | None = None
    lnsub_version: str = __version__
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def records_of(metrics: Mapping[str, float], **facts: Any) -> list[Record]:
    """Makes the records of one measurement, one per metric.

    Args:
        metrics: the values by the metrics' names.
        facts: the other fields, which the records share.
    """
    return [Record(metric=name, value=float(value), **facts) for name, value in metrics.items()]


def append(path: Path, records: list[Record]) -> None:
    """Appends records to a file and waits until they are on the disk.

    A last line that a crash left unfinished is closed first, so that it spoils no other record.

    Raises:
        UserError: they cannot be written, for example as the disk is full; the file is unchanged.
    """
    append_lines(path, b"".join(json.dumps(asdict(record), ensure_ascii=False).encode() + b"\n" for record in records))


def read(path: Path) -> list[Record]:
    """Reads a file of records; none where there is no file.

    Tolerant, as a run may be writing: a line that is not a whole record is skipped with a warning. Fields that a newer
    version added are dropped, those that an older one lacked have their default.
    """
    known = {f.name for f in fields(Record)}
    needed = {f.name for f in fields(Record) if f.default is MISSING and f.default_factory is MISSING}
    return [Record(**{k: v for k, v in row.items() if k in known}) for row in _rows(path, needed)]


def read_tree(root: Path) -> list[Record]:
    """Reads the records of all runs below ``root``, in path order."""
    return [record for path in sorted(root.rglob(FILE_NAME)) for record in read(path)]


def _rows(path: Path, needed: set[str]) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if isinstance(row, dict) and needed <= row.keys():
            yield row
        else:
            warnings.warn(f"{path}, line {number} is not a whole record and is skipped.", stacklevel=3)
