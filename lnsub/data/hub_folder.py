"""A folder that was downloaded from the Hugging Face Hub: its README.md says which files make up a configuration.

``datasets`` finds the files; they are then read like any other local files, so that nothing comes from a cache.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_yaml, read_text
from lnsub.data.datasets_internals import described_features, files_of_configuration
from lnsub.data.formats import SUFFIXES_UNPACKED, reason
from lnsub.data.layouts import by_convention, check_shards
from lnsub.data.splits import LocalSplit, SplitFiles, check_regular

_MOST_BYTES = 2**23
"""The largest README.md; that of Wikipedia, with 320 configurations, has 100,000 bytes."""

# What else a configuration may say is how to read its files, which would be ignored here in silence.
_KNOWN = {"config_name", "data_files", "data_dir", "default", "description", "version", "sep", "delimiter"}


def configurations(root: Path) -> dict[str, Mapping[str, Any]]:
    """Returns the configurations that a folder's README.md lists, by name; none where it lists none.

    Raises:
        UserError: it cannot be read.
    """
    readme = root / "README.md"
    if not readme.is_file():
        return {}
    try:
        text = read_text(readme, _MOST_BYTES)
        header = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
        facts = parse_yaml(header[1]) if header else None
    except (OSError, UnreadableError) as error:
        raise UserError(f"'{readme}' cannot be read: {error}.") from error
    listed = facts.get("configs") if isinstance(facts, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {str(entry.get("config_name", "default")): entry for entry in entries}


def splits_of(root: Path, name: str, configuration: Mapping[str, Any]) -> dict[str, LocalSplit]:
    """Finds the splits of a configuration.

    Args:
        root: the folder with README.md in it.
        name: the configuration's name.
        configuration: what README.md says about it.

    Raises:
        UserError: its files are not there, are not in the folder, or would have to be read in a way of their own.
    """
    where = f"The configuration '{name}' in '{root / 'README.md'}'"
    if unknown := sorted(configuration.keys() - _KNOWN):
        raise UserError(f"{where} sets {', '.join(unknown)}, which is not supported for local data.")
    _refuse_elsewhere(where, [configuration.get("data_files"), configuration.get("data_dir")])
    # datasets would wait for ever for a FIFO of this name.
    check_regular([path for path in [root / "dataset_infos.json"] if path.exists() or path.is_symlink()])
    base, directory = root.resolve(), configuration.get("data_dir")
    try:
        files = files_of_configuration(base, configuration.get("data_files"), directory, SUFFIXES_UNPACKED)
        features = described_features(base, name)
    except Exception as error:  # whatever a README.md makes datasets raise
        raise UserError(f"{where} cannot be used: {reason(error)}") from error
    separator = configuration.get("delimiter") or configuration.get("sep")
    found: dict[str, LocalSplit] = {}
    for split, listed in by_convention(files).items():
        paths = tuple(Path(file) for file in listed)
        if not paths:
            raise UserError(f"{where} names files of the {split} split of which none is there.")
        for path in paths:
            if not path.is_relative_to(base) or ".." in path.parts:
                raise UserError(f"{where} names '{path}', which is not in the folder.")
        check_regular(paths)
        check_shards(paths)
        found[split] = SplitFiles(paths, None if separator is None else str(separator), features)
    return found


def _refuse_elsewhere(where: str, value: Any) -> None:
    """Refuses addresses, which datasets would fetch; whatever text there is may be a path."""
    if isinstance(value, str) and "://" in value:
        raise UserError(f"{where} names '{value}', which is not in the folder.")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _refuse_elsewhere(where, inner)
