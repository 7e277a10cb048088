"""The runs of a tree with their settings: what they share is said once, what differs becomes a table."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

# Where a run lies and what it is about: the table has columns of their own for these, or they say nothing of it.
_ASIDE = frozenset({"output", "language", "seed_everything", "ticket", "default_root_dir", "task", "seed"})


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        folder: relative to the tree.
        facts: what its records say, by column of the table.
        settings: its resolved configuration, flat: short names and their values as text.
    """

    folder: str
    facts: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)


def read_runs(root: Path, frame: pd.DataFrame) -> list[Run]:
    """Reads the settings of all runs of a tree.

    Args:
        root: the tree.
        frame: its records, see :func:`lnsub.frame.read_frame`.

    Returns:
        The runs in path order: folders with records or with a ``config.yaml``. A configuration that is not readable
        counts as none.
    """
    folders = {path.parent.relative_to(root).as_posix() for path in root.rglob("config.yaml")}
    runs = []
    for folder in sorted(folders | set(frame["run"])):
        facts = _facts(frame[frame["run"] == folder])
        runs.append(Run(folder, facts, _settings(root / folder / "config.yaml")))
    return runs


def split_settings(runs: list[Run]) -> tuple[dict[str, str], list[str]]:
    """Parts what all runs with a configuration share from what differs.

    Args:
        runs: any.

    Returns:
        The shared settings with their values, and the names of those that differ between runs, or that not all have.
    """
    configured = [run.settings for run in runs if run.settings]
    names = list(dict.fromkeys(name for settings in configured for name in settings))
    shared = {n: configured[0][n] for n in names if len({settings.get(n) for settings in configured}) == 1}
    return shared, [name for name in names if name not in shared]


def _facts(records: pd.DataFrame) -> dict[str, str]:
    def listed(column: str) -> str:
        values = list(dict.fromkeys(str(value) for value in records[column].dropna()))
        return ", ".join(sorted(values) if len(values) < 7 else [f"{len(values)} of them"])

    if records.empty:
        return {"what": "no records yet"}
    measured = records.drop_duplicates(["kind", "round", "source", "target", "sparsity", "seed", "ticket", "wall_s"])
    kinds = measured["kind"].value_counts(sort=False)
    sparsities = sorted(set(records["sparsity"]))
    return {
        "what": ", ".join(f"{kind} × {count}" for kind, count in kinds.items()),
        "task": listed("task"),
        "model": listed("model"),
        "source": listed("source"),
        "target": listed("target"),
        "sparsity, %": " to ".join(f"{100 * s:g}" for s in dict.fromkeys((sparsities[0], sparsities[-1]))),
        "seed": listed("seed"),
        "examples": listed("n"),
        "minutes": f"{measured['wall_s'].sum() / 60:.1f}",
        "version": listed("lnsub_version"),
    }


def _settings(path: Path) -> dict[str, str]:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    flat: dict[str, str] = {}
    _flatten(config, "", flat)
    return flat


def _flatten(value: Any, name: str, flat: dict[str, str]) -> None:
    """Writes nested settings as ``learning_rate`` or ``IMPCallback.sparsities``; those that are null are left out."""
    if isinstance(value, dict):
        head = name
        if "class_path" in value:
            head = str(value["class_path"]).rsplit(".", 1)[-1]
            flat.setdefault(name or "class", head)
            value = value.get("init_args") or {}
        for key, inner in value.items():
            # Names are unique below these, and shorter without them.
            short = head in {"", "trainer", "model", "data"} or name == "data"
            _flatten(inner, str(key) if short else f"{head}.{key}", flat)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for place, item in enumerate(value):
            _flatten(item, f"{name}.{place + 1}", flat)
    elif value is not None and name.rsplit(".", 1)[-1] not in _ASIDE:
        flat.setdefault(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
