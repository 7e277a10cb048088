"""What W&B already has of a run, read from the files that its client left in the run's folder.

The client writes every row into a transaction log on the disk, ``wandb/[offline-]run-TIME-ID/run-ID.wandb``: LevelDB's
log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) with W&B's own header, and one protocol
buffer a record. Each start of a run begins a new file. So after a crash the files tell which rows are safe, and which
have still to be sent.
"""

import json
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GLOBAL_STEP = "trainer/global_step"
"""The key under which each row has the trainer's step."""

Row = dict[str, Any]

_BLOCK, _FILE_HEADER = 32768, struct.Struct("<4sHB")
_HEADER = struct.Struct("<IHB")  # CRC-32, length, type
_WHOLE, _FIRST, _LAST = 1, 2, 4


@dataclass(frozen=True)
class Segment:
    """What one start of a run left on the disk.

    Attributes:
        offline: whether it was logged offline, to be sent later.
        rows: the rows, each with W&B's own step under ``_step``.
        finished: whether W&B was told that the run is over, which it is when all is sent.
    """

    offline: bool
    rows: list[Row]
    finished: bool


@dataclass(frozen=True)
class Past:
    """What W&B has of a run, and what it still lacks.

    Attributes:
        known: the values that W&B has, or has on the disk, by the trainer's step and the key.
        lost: rows that were on their way to the server when the run was killed.
    """

    known: dict[tuple[int, str], Any] = field(default_factory=dict)
    lost: list[Row] = field(default_factory=list)


def segments(folder: Path, run_id: str) -> list[Segment]:
    """Reads all starts of a run, in the order of time.

    Args:
        folder: the run's folder, with ``wandb/`` in it.
        run_id: the run's id.
    """
    # The number at the end is that of a start within the same second as another.
    pattern = re.compile(rf"(offline-)?run-(\d{{8}}_\d{{6}}).*?-{re.escape(run_id)}(?:-(\d+))?")
    found = []
    for path in (folder / "wandb").glob(f"*run-*/run-{run_id}.wandb"):
        if match := pattern.fullmatch(path.parent.name):
            found.append((match[2], int(match[3] or 0), path, bool(match[1])))
    return [_segment(path, offline) for _, _, path, offline in sorted(found)]


def drop_empty(folder: Path, run_id: str) -> None:
    """Removes what starts that were killed before their first write left offline: `wandb sync` sends nothing beside it.

    Args:
        folder: the run's folder, which no other process runs in.
        run_id: the run's id.
    """
    for path in (folder / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"):
        if next(_records(path.read_bytes()), None) is None:
            shutil.rmtree(path.parent)


def past(found: list[Segment], arrived: int | None) -> Past:
    """Tells what W&B has.

    Args:
        found: the starts of a run.
        arrived: how many steps the server says it has; None where there is no server to ask, so that every row counts
            as known: it is on the disk.
    """
    known: dict[tuple[int, str], Any] = {}
    unsure: list[Row] = []
    limit = arrived
    # Backwards: where a later start goes on is where the server's history ended then.
    for segment in reversed(found):
        for row in reversed(segment.rows):
            if segment.offline or limit is None or row["_step"] < limit:
                known |= values(row)
            else:
                unsure.append(row)
        if not segment.offline and segment.rows:
            limit = segment.rows[0]["_step"]
    lost = [{k: v for k, v in row.items() if not k.startswith("_")} for row in reversed(unsure)]
    return Past(known, [row for row in lost if not values(row).keys() <= known.keys()])


def values(row: Row) -> dict[tuple[int, str], Any]:
    """A row's values by the trainer's step and the key; none of a row that has no such step."""
    step = row.get(GLOBAL_STEP)
    if step is None:
        return {}
    return {(int(step), key): value for key, value in row.items() if key != GLOBAL_STEP and key[0] != "_"}


def _segment(path: Path, offline: bool) -> Segment:
    from wandb.proto import wandb_internal_pb2 as wandb_proto

    rows, finished = [], False
    for record in (wandb_proto.Record.FromString(data) for data in _records(path.read_bytes())):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = _row(record.history.item)
            row.setdefault("_step", record.history.step.num)
            rows.append(row)
        finished = finished or kind == "exit"
    return Segment(offline, rows, finished)


def _row(items: Iterable[Any]) -> Row:
    """A row's plain numbers and words; tables and other media are left out."""
    found = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
    return {key: value for key, value in found.items() if isinstance(value, int | float | str)}


def _records(data: bytes) -> Iterator[bytes]:
    """Cuts a file into records; ends without complaint where a crash cut it off or damaged it."""
    if len(data) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(data)[:2] != (b":W&B", 0xBEE1):
        return
    at, parts = _FILE_HEADER.size, list[bytes]()
    while at + _HEADER.size <= len(data):
        room = _BLOCK - at % _BLOCK
        if room < _HEADER.size:  # the end of a block is filled with zeros
            at += room
            continue
        checksum, size, kind = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + _HEADER.size + size]
        if kind == 0 or len(body) < size or zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            return
        at += _HEADER.size + size
        parts = [body] if kind in (_WHOLE, _FIRST) else [*parts, body]
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
