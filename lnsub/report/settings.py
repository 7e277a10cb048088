"""The runs of a tree with their settings: those that all share, and those that differ."""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from lnsub.common.plain_data import UnreadableError, parse_yaml, read_text

# What a run is about has columns of its own in the table, and where it lies does not matter.
_ASIDE = frozenset({"output", "language", "seed_everything", "ticket", "default_root_dir", "wandb"})


@dataclass(frozen=True)
class Run:
    """A run's folder, or that of all cells of a transfer.

    Attributes:
        folder: relative to the tree.
        facts: from its records, by column of the table.
        settings: its resolved configuration, flat: short names and their values as text.
    """

    folder: str
    facts: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)


def run_settings(root: Path, frame: pd.DataFrame) -> list[Run]:
    """Reads the settings of all runs of a tree.

    Args:
        root: the tree.
        frame: its records, see :func:`lnsub.runs.tree.read_runs`.

    Returns:
        The runs in path order: folders with records or with a ``config.yaml``; the cells of a transfer are one run. An
        unreadable configuration counts as none.
    """
    configs: dict[str, Path] = {}
    for path in sorted(root.rglob("config.yaml")):
        configs.setdefault(_run_of(path.parent.relative_to(root).as_posix()), path)
    runs = frame["run"].map(_run_of)
    return [
        Run(run, _facts(frame[runs == run]), _settings(configs[run]) if run in configs else {})
        for run in sorted({*configs, *runs})
    ]


def split_settings(runs: list[Run]) -> tuple[dict[str, str], list[str]]:
    """Separates the settings that all runs with a configuration share from those that differ.

    Args:
        runs: the runs.

    Returns:
        The shared settings with their values, and the names of those that differ or that some runs lack.
    """
    configured = [run.settings for run in runs if run.settings]
    names = list(dict.fromkeys(name for settings in configured for name in settings))
    shared = {n: configured[0][n] for n in names if len({settings.get(n) for settings in configured}) == 1}
    return shared, [name for name in names if name not in shared]


def _run_of(folder: str) -> str:
    path = PurePosixPath(folder)
    return path.parent.parent.as_posix() if path.parent.name == "cells" else folder


def _facts(records: pd.DataFrame) -> dict[str, str]:
    def listed(column: str) -> str:
        values = sorted({str(value) for value in records[column].dropna()})
        return ", ".join(values) if len(values) < 12 else f"{len(values)} different"

    if records.empty:
        return {"measured": "nothing yet"}
    # A fit is recorded once for each metric, split and target.
    fits = records.drop_duplicates(["run", "kind", "round", "seed", "wall_s"])
    sparsities = sorted(set(records["sparsity"]))
    kinds = records.drop_duplicates(["run", "kind", "round", "target", "sparsity", "seed", "ticket", "layer"])["kind"]
    return {
        "measured": ", ".join(f"{count} \u00d7 {kind}" for kind, count in kinds.value_counts(sort=False).items()),
        "task": listed("task"),
        "model": listed("model"),
        "source": listed("source"),
        "target": listed("target"),
        "sparsity, %": " to ".join(f"{100 * s:g}" for s in dict.fromkeys((sparsities[0], sparsities[-1]))),
        "seed": listed("seed"),
        "n": listed("n"),
        "minutes": f"{fits['wall_s'].sum() / 60:.1f}",
        "lnsub": listed("lnsub_version"),
    }


def _settings(path: Path) -> dict[str, str]:
    try:
        config = parse_yaml(read_text(path))
    except (OSError, UnreadableError):
        return {}
    flat: dict[str, str] = {}
    _flatten(config, "", flat)
    return flat


def _flatten(value: Any, name: str, flat: dict[str, str]) -> None:
    """Writes nested settings as ``learning_rate`` or ``IMPCallback.sparsities``; nulls are left out."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf in _ASIDE:
        return
    if isinstance(value, dict) and "class_path" in value:
        head = str(value["class_path"]).rsplit(".", 1)[-1]
        if name == "data":
            flat["data"] = head
        # The options of the data module and of the optimizer are unique below their names.
        arguments = value.get("init_args")
        for key, inner in arguments.items() if isinstance(arguments, dict) else ():
            _flatten(inner, key if name == "data" else f"{head}.{key}", flat)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, key if name in {"", "trainer", "model"} else f"{name}.{key}", flat)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for place, item in enumerate(value):
            _flatten(item, f"{name}.{place + 1}", flat)
    elif value is not None:
        flat.setdefault(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
