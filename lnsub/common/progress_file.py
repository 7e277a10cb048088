"""How far a command is, for whoever started it: a small file that is replaced about once a second.

`lnsub study` names the file in the environment of each job, and shows what it finds there.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lnsub.common.plain_data import UnreadableError, parse_json, read_text

VARIABLE = "LNSUB_PROGRESS"
"""The environment variable with the file's name; without it nothing is written."""

_EVERY = 1.0
"""Seconds between two writes."""

_written = -_EVERY


@dataclass(frozen=True)
class Progress:
    """How far a command is.

    Attributes:
        what: where it is, for people: ``round 3/9 · sparsity 0.30``.
        done: the share of the work that is done, in [0, 1].
        seconds_left: until its end; None where it cannot tell yet.
        time: when this was written, in seconds since the epoch.
    """

    what: str
    done: float
    seconds_left: float | None
    time: float = 0.0


def note_progress(what: str, done: float, seconds_left: float | None) -> None:
    """Writes how far this command is, unless nobody asked or it was written less than a second ago.

    A disk that takes no more is not this function's to report: what the command itself writes will fail.
    """
    global _written
    name = os.environ.get(VARIABLE)
    if not name or time.monotonic() - _written < _EVERY:
        return
    _written = time.monotonic()
    part = Path(f"{name}.{os.getpid()}.partial")
    text = json.dumps(asdict(Progress(what, round(min(max(done, 0.0), 1.0), 6), seconds_left, time.time())))
    with suppress(OSError):
        part.write_text(text, encoding="utf-8")
        part.replace(name)


def read_progress(path: Path) -> Progress | None:
    """Reads what :func:`note_progress` wrote; None where there is nothing, or nothing whole."""
    try:
        return Progress(**parse_json(read_text(path)))
    except (OSError, UnreadableError, TypeError):
        return None
