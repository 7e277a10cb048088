"""The settings of a folder's runs: kept beside their results, and the same for all runs that write there."""

import json
from pathlib import Path
from typing import Any

import yaml

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_yaml, read_text

HARMLESS = frozenset(
    {
        *("output", "wandb", "checkpoint_every_minutes", "checkpoint_every_n_steps", "rank_timeout"),
        *("data.init_args.num_workers", "model.step"),
        *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.plugins"),
        *("trainer.default_root_dir", "trainer.inference_mode", "trainer.logger", "trainer.log_every_n_steps"),
        *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler", "trainer.detect_anomaly"),
    }
)
"""Settings that may differ when a run is resumed, as they do not change what is computed."""


def keep_settings(path: Path, config: dict[str, Any]) -> None:
    """Writes the settings of a folder's runs, or checks that those there already are the same.

    Args:
        path: the file, in the folder.
        config: the resolved configuration; :data:`HARMLESS` settings may differ.

    Raises:
        UserError: the file has other settings, or cannot be read.
    """
    if not path.exists():
        with replacing(path) as file:
            file.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
        return
    try:
        there = parse_yaml(read_text(path))
    except UnreadableError as error:
        raise UserError(f"{path} cannot be read, as {error}: mend it, or choose another --output.") from error
    before, now = _by_dotted_key(there), _by_dotted_key(config)
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key, "null") != now.get(key, "null"))
    if differing:
        key = differing[0]
        raise UserError(
            f"{path.parent} holds a run with other settings: {key} was {before.get(key)}, now it is {now.get(key)}. "
            "Choose another --output, or delete that folder."
        )


def _by_dotted_key(config: Any, prefix: str = "") -> dict[str, str]:
    """The settings that decide what is computed, each as JSON by its dotted key."""
    if not isinstance(config, dict):
        return {prefix: json.dumps(config, default=str)}
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name not in HARMLESS:
            found |= _by_dotted_key(value, name)
    return found
