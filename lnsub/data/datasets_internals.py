"""What of ``datasets`` is private or undocumented and used here.

A :class:`datasets.Dataset` keeps a fingerprint that changes with its content and is the same at each load of one
revision from the Hub, but has no public name for it: it can only be set (``new_fingerprint=``).

``datasets.load_dataset_builder`` finds the files of a configuration of a folder, but only where the files of the first
configuration are there too, which those who download one language do not have.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns
from datasets.info import DatasetInfosDict


def fingerprint(table: datasets.Dataset) -> str:
    """Returns a string that changes when the table's content does."""
    return str(table._fingerprint)


def files_of_configuration(
    root: Path, data_files: Any, data_dir: str | None, suffixes: Sequence[str]
) -> dict[str, list[str]]:
    """Finds the files of a configuration in a folder, as ``load_dataset`` does.

    Args:
        root: the folder.
        data_files: patterns, as the configuration gives them; None takes the usual names.
        data_dir: the folder below ``root`` that usual names are looked for in.
        suffixes: the suffixes of files to find.

    Returns:
        Paths by split, in order.
    """
    base = (root / data_dir if data_dir else root).as_posix()
    patterns = sanitize_patterns(data_files) if data_files is not None else get_data_patterns(glob.escape(base))
    found = DataFilesDict.from_patterns(
        patterns,
        base_path=glob.escape(root.as_posix() if data_files is not None else base),
        allowed_extensions=list(suffixes),
    )
    return {str(split): list(files) for split, files in found.items()}


def described_features(root: Path, name: str) -> datasets.Features | None:
    """Returns the types that a folder's README.md gives to a configuration's columns; None if it gives none."""
    described = DatasetInfosDict.from_directory(str(root)).get(name)
    return None if described is None else described.features
