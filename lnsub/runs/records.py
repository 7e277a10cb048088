"""Measurements: one record each, one JSON line each, appended so that a crash loses nothing.

A run's folder (see :mod:`lnsub.runs.folder`) holds them in ``results.jsonl``; :func:`read_tree` reads a tree of runs.
"""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.files import append_lines, check_output
from lnsub.common.plain_data import UnreadableError, parse_json
from lnsub.version import __version__

FILE_NAME = "results.jsonl"
MOST_LAYERS = 10_000
"""The largest number of a layer that a record may have; figures have a place for every layer up to it."""
MOST_BYTES = 2**29
"""The largest file of records that is read: a million records, of which a run writes some hundred."""
BY_LAYER = frozenset({"retrieval", "similarity"})
"""The kinds of records of a layer's states, which nothing was trained for; the others have a task's metrics."""
ABLATION = "ablation"
"""The kind of records of what a model does without some of its weights; nothing was trained for them."""
REMOVALS = ("none", "kept", "pruned", "departure", "random")
"""What a record of the kind ``ablation`` may have taken away, see :attr:`Record.removed`."""
LONGEST_LINE = 2**20
"""The longest line that can be a record."""


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        kind: what was done: ``imp`` (a round of iterative magnitude pruning), ``transfer`` (a ticket fine-tuned on a
            language), ``dense`` (fine-tuning without a ticket), ``part`` (any of these on a mixture of languages,
            measured on one of them), ...
        task: the task's name.
        model: the base model, as the user named it.
        source: the language that the ticket was found on; None without a ticket.
        target: the language, or mixture of languages, that was trained and measured on.
        sparsity: the pruned share of the prunable weights, as asked for, in [0, 1).
        score: the score that the ticket was selected by.
        init: ``pretrained`` or ``random``.
        seed: the run's seed.
        round: the round of the pruning loop, 0 dense; None outside it.
        split: the split that was measured on.
        metric: the metric's name.
        value: its value.
        n: of a share or a mean, such as an accuracy, a loss or a perplexity, how many things it is over: pairs, words,
            predicted tokens, or for ``bits_per_byte`` bytes, see :attr:`lnsub.tasks.task.Task.denominators`. Of any
            other metric, such as F1, and of retrieval and similarity, the examples measured on.
        wall_s: seconds that the fine-tuning took.
        ticket: the checksum of the mask that was trained under; None where dense.
        layer: for ``retrieval`` and ``similarity``: the hidden state that was compared, 0 for the embeddings.
        source_task: the task that the ticket was found on; None without a ticket, or in ``task``'s own pruning loop.
        source_seed: the seed of the run that it was found in; likewise.
        condition: what sets the run apart from the plain one of its seed, see :mod:`lnsub.runs.condition`; None where
            plain, and for the cells of a transfer, which all have the same settings.
        source_condition: that of the run that the ticket was found in; None where plain, and without a ticket.
        trained_on: for ``part``: the mixture that was trained on.
        pivot: for ``retrieval`` and ``similarity``: the language that the target's sentences were compared with; None
            for English.
        pivot_ticket: the checksum of the mask that the pivot's sentences were embedded under; None where it is
            ``ticket``.
        low: the lower end of the value's 95 % interval; None where there is no interval.
        high: the upper end.
        null: for ``similarity``: the mean value of sentences shuffled between the languages; None where not measured.
        null_low: the lower end of the middle 95 % of those values.
        null_high: the upper end.
        removed: for ``ablation``: what was taken away: ``none``, what the ticket has ``kept`` or ``pruned``, its
            ``departure`` from another mask, or ``random`` units in place of these.
        drawn_for: for ``random``: in place of which of the three.
        fill: for ``ablation``: what a removed weight gives: ``zero``, or its ``mean``.
        granularity: for ``ablation``: what is counted and drawn, see :data:`lnsub.tickets.units.Granularity`.
        units: for ``ablation``: how many of those were taken away.
        draw: for ``random``: the number of the draw, from 0.
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
    condition: str | None = None
    source_condition: str | None = None
    trained_on: str | None = None
    pivot: str | None = None
    pivot_ticket: str | None = None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    removed: str | None = None
    drawn_for: str | None = None
    fill: str | None = None
    granularity: str | None = None
    units: int | None = None
    draw: int | None = None
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


def append_new(folder: Path, records: list[Record]) -> None:
    """Appends records to a folder's ``results.jsonl``, except for those there with the same value."""
    path = folder / FILE_NAME

    def measured(found: Record) -> Record:
        return replace(found, wall_s=0.0, lnsub_version="", time="")

    there = {measured(found) for found in read(path)}
    append(path, [new for new in records if measured(new) not in there])


def check_records(folder: Path) -> None:
    """Refuses a folder that records cannot be added to; call it before the work.

    Raises:
        UserError: it is a file, or its ``results.jsonl`` holds something else than records.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: records are added to results.jsonl in a folder.")
    path = folder / FILE_NAME
    check_output(path, "a file of records", lambda path: bool(read_counted(path)[0]))


def read(path: Path) -> list[Record]:
    """Reads a file of records; none where there is no file.

    Tolerant, as a run may be writing and anything may have happened to the file: lines that are not whole records,
    with values of the right types, are skipped with a warning that counts them. Fields that a newer version added are
    dropped, those that an older one lacked have their default.
    """
    records, skipped = read_counted(path)
    if skipped:
        warnings.warn(skipped_lines(path, skipped), stacklevel=2)
    return records


def read_counted(path: Path) -> tuple[list[Record], list[int]]:
    """Reads a file of records as :func:`read` does, but without the warning.

    Returns:
        The records, and the numbers of the lines that are not whole records.

    Raises:
        UserError: it is a folder, a device or a FIFO, or far too large.
    """
    if not path.exists():
        return [], []
    if not path.is_file():
        raise UserError(f"{path} is not a regular file, so it holds no records: move it away.")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{path} has {size:,} bytes, more than the {MOST_BYTES:,} that are read: move it away.")
    records, skipped = [], []
    with path.open("rb") as file:
        # Bytes, and only at line breaks: a text file would also be split at a carriage return within a name.
        for number, line in enumerate(file, start=1):
            record = _record(line) if len(line) <= LONGEST_LINE else None
            if record is not None:
                records.append(record)
            elif not line.isspace():
                skipped.append(number)
    return records, skipped


def skipped_lines(path: Path, skipped: list[int]) -> str:
    """Says which lines of a file are skipped."""
    shown = ", ".join(map(str, skipped[:5])) + (", ..." if len(skipped) > 5 else "")
    if len(skipped) == 1:
        return f"{path}, line {shown} is not a whole record and is skipped."
    return f"{path}: {len(skipped):,} lines are not whole records and are skipped: {shown}."


def read_tree(root: Path) -> list[Record]:
    """Reads the records of all runs below ``root``, in path order."""
    return [record for path in sorted(root.rglob(FILE_NAME)) for record in read(path)]


_FIELDS = {f.name: f for f in fields(Record)}
_NEEDED = {f.name for f in fields(Record) if f.default is MISSING and f.default_factory is MISSING}


def _record(line: bytes) -> Record | None:
    """The record that a line holds; None where it holds none."""
    try:
        row = parse_json(line.decode(errors="replace"))
    except UnreadableError:
        return None
    if not isinstance(row, dict) or not row.keys() >= _NEEDED:
        return None
    known = {name: value for name, value in row.items() if name in _FIELDS}
    if not all(_fits(name, value) for name, value in known.items()):
        return None
    record = Record(**known)
    return record if _in_range(record) else None


def _in_range(record: Record) -> bool:
    """Whether numbers are in their ranges; a layer has a number and a sentence at least, a ticket its source."""
    if record.layer is not None and not 0 <= record.layer <= MOST_LAYERS:
        return False
    if record.kind in BY_LAYER and (record.layer is None or record.n < 1 or (record.ticket and not record.source)):
        return False
    if record.kind == ABLATION and (record.removed not in REMOVALS or record.units is None or record.fill is None):
        return False
    if min(record.units or 0, record.draw or 0) < 0:
        return False
    return 0 <= record.sparsity <= 1 and record.n >= 0


def _fits(name: str, value: Any) -> bool:
    """Whether a field may have a value; a whole number is a float too, a boolean is no number."""
    kind: Any = _FIELDS[name].type
    if isinstance(value, bool):
        return False
    # A metric of a fit that diverged is a measurement all the same.
    if isinstance(value, float) and not math.isfinite(value) and name != "value":
        return False
    return isinstance(value, kind) or (kind is float and isinstance(value, int))
