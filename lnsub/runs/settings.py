"""The settings of a run, in its folder: written once, and compared when the run is resumed."""

import json
from pathlib import Path
from typing import Any

import yaml

from lnsub.common.errors import UserError
from lnsub.common.files import replacing

_HARMLESS = frozenset(
    (
        *("accelerator", "devices", "num_nodes", "strategy", "plugins", "default_root_dir", "inference_mode"),
        *("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "profiler", "detect_anomaly"),
    )
)
"""Trainer settings that may differ when a run is resumed: they do not change what is computed."""


_NO_DIFFERENCE = {
    *("output", "wandb", "checkpoint_every_n_steps", "rank_timeout", "data.init_args.num_workers"),
    *(f"trainer.{name}" for name in _HARMLESS),
}


def keep_settings(path: Path, config: dict[str, Any]) -> None:
    """Writes the settings that a folder's runs have, or checks that the folder already has the same.

    Args:
        path: the file, in the folder.
        config: the resolved configuration. Settings that do not change what is computed may differ.

    Raises:
        UserError: the file's settings are others, or it cannot be read.
    """
    if not path.exists():
        with replacing(path) as file:
            file.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
        return
    try:
        there = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: correct it, or choose another --output.") from error
    differing = sorted(key for key in _flat(there).items() ^ _flat(config).items())
    if differing:
        key = differing[0][0]
        raise UserError(
            f"{path.parent} holds a run with other settings: {key} was {_flat(there).get(key)}, "
            f"now it is {_flat(config).get(key)}. Choose another --output, or delete that folder."
        )


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    """The settings that decide what is computed, as text by dotted key."""
    if not isinstance(config, dict):
        return {prefix: json.dumps(config, default=str)}
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in _NO_DIFFERENCE:
            continue
        flat |= _flat(value, name)
    return flat
