"""JSON and YAML of files that anybody may have written: read within bounds, into plain values.

Deep nesting exhausts the stack (libyaml's even crashes the process), a few hundred bytes of aliases stand for
terabytes, and a number of a million digits takes minutes to print. Whatever is read here has none of these: what comes
back consists of dicts with text as keys, lists, text, floats, whole numbers of 64 bits, booleans and None.
"""

import json
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20
"""The largest file that :func:`read_text` takes by default; a run's ``config.yaml`` has some thousand bytes."""

MOST_CHARACTERS = 2**21
"""The most that YAML may hold once its aliases are written out."""

DEEPEST = 64
"""The most levels of nesting; a run's configuration has about eight."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class UnreadableError(ValueError):
    """Text that cannot be read; the message is the reason, as the end of a sentence."""


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Reads a text file.

    Raises:
        UnreadableError: it is not a regular file, not UTF-8, or larger than ``most`` bytes.
        OSError: it is not there, or may not be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableError("it is not a regular file")
    if found.st_size > most:
        raise UnreadableError(f"it has {found.st_size:,} bytes, more than the {most:,} that are read")
    with path.open("rb") as file:
        content = file.read(most + 1)  # of a file that grows, or that tells no size as in /proc, no more
    if len(content) > most:
        raise UnreadableError(f"it has more than the {most:,} bytes that are read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not UTF-8 text: {error.reason} at byte {error.start:,}") from error


def parse_json(text: str | bytes) -> Any:
    """Reads JSON.

    Raises:
        UnreadableError: it is not JSON, or goes beyond the bounds above.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except ValueError as error:  # a broken encoding and a number of too many digits among them
        raise UnreadableError(f"it is not JSON: {str(error).splitlines()[0][:200]}") from error
    return _plain(value)


def parse_yaml(text: str) -> Any:
    """Reads YAML; dates and whatever else JSON does not have come back as text.

    Raises:
        UnreadableError: it is not YAML, or goes beyond the bounds above.
    """
    try:
        check_yaml(text)
        return _plain(yaml.load(text, Loader=_LOADER))
    except UnreadableError:
        raise
    except Exception as error:  # PyYAML lets errors of many types out: of int(), of dates, of its own tables
        raise UnreadableError(f"it is not YAML: {' '.join(str(error).split())[:200]}") from error


def check_yaml(text: str) -> None:
    """Refuses YAML beyond the bounds above, for another reader; from its events alone, before anything is composed.

    Raises:
        UnreadableError: it is nested too deeply, or too large with all aliases written out.
        yaml.YAMLError: it is not YAML.
    """
    size = 0
    inside: list[tuple[str | None, int]] = []  # collections that are open: their anchor, and the size before them
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise UnreadableError(f"its alias *{event.anchor} stands for nothing, or for what it is part of")
            size += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size += 1 + len(event.value)
            if event.anchor:
                sizes[event.anchor] = 1 + len(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append((event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = inside.pop()
            if anchor:
                sizes[anchor] = size - before
        if len(inside) > DEEPEST:
            raise UnreadableError(f"it is nested more than {DEEPEST} levels deep")
        if size > MOST_CHARACTERS:
            raise UnreadableError(f"with its aliases written out it has more than {MOST_CHARACTERS:,} characters")


def _plain(value: Any, depth: int = 0) -> Any:
    """Makes values plain, and refuses what is nested too deeply or too large to print."""
    if depth > DEEPEST:
        raise UnreadableError(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UnreadableError("it has half a surrogate pair, which is no text")
        return value
    if isinstance(value, int) and value.bit_length() > 63:
        raise UnreadableError("it has a number of more than 64 bits")
    return value if value is None or isinstance(value, bool | int | float) else str(value)
