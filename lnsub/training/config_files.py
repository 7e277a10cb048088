"""Files of settings, which anybody may have written: read within bounds, and refused where they are ambiguous.

Importing this module sets the bounds for all YAML that jsonargparse reads.
"""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, check_yaml, read_text


def check_files(args: Sequence[str]) -> None:
    """Refuses what is not a text file but is named like one on a command line; a FIFO would be waited for.

    Args:
        args: the options of a training command.

    Raises:
        UserError: a ``--config`` cannot be read, or an option names a device, a FIFO or a socket.
    """
    for option, value in _options(args):
        try:
            mode = Path(value).stat().st_mode
        except (OSError, ValueError):  # there is no such file, or it is no path at all: what parses the option says so
            continue
        try:
            if option == "--config" and stat.S_ISREG(mode):
                read_text(Path(value))
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise UnreadableError("it is a device, a FIFO or a socket")
        except UnreadableError as error:
            raise UserError(f"{option}: {value} cannot be used: {error}.") from error


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options and their values, from ``--a b`` and ``--a=b``."""
    for arg, following in zip(args, [*args[1:], ""], strict=False):
        name, equals, value = arg.partition("=")
        if name.startswith("--"):
            yield name, value if equals else following


_load_yaml = get_loader("yaml")


def load_yaml(text: str) -> Any:
    """Reads YAML as jsonargparse does, but no aliases or levels without end, and no key twice."""
    check_yaml(text)
    _refuse_twice(yaml.compose(text, Loader=yaml.SafeLoader), seen=set())
    return _load_yaml(text)


def _refuse_twice(node: yaml.Node | None, seen: set[int]) -> None:
    """Raises UnreadableError where a mapping has a key twice, of which YAML readers silently take the last."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys:
                raise UnreadableError(f"it has the key {key.value} twice, again in line {key.start_mark.line + 1}")
            keys.add(str(key.value))
            _refuse_twice(value, seen)


set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError, UnreadableError))
