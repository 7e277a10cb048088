"""A cell's folder: its records, or the reason why it failed.

::

    DIR/<task>.yaml               the settings that all cells of the task share
    DIR/masks/                    tickets of baselines, each used by several cells
    DIR/cells/<cell>/
        config.yaml               the resolved configuration; `lnsub fit --config` of it repeats the fine-tuning
        results.jsonl             one record per line, all written at the end
        failed.json               if the cell failed instead: the reason
        metrics.csv, wandb/       written by the loggers
"""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lnsub.common.files import replacing
from lnsub.common.locks import LOCK_NAME
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.runs.folder import RunFolder


@dataclass(frozen=True)
class CellFolder(RunFolder):
    """The folder of one cell."""

    @property
    def failure(self) -> Path:
        """The file with the reason for the last failure."""
        return self.path / "failed.json"

    def reason(self) -> str | None:
        """The reason for the last failure, or None."""
        try:
            return str(parse_json(read_text(self.failure))["reason"])
        except FileNotFoundError:
            return None
        except (OSError, UnreadableError, KeyError, TypeError):
            return f"{self.failure} cannot be read"

    def fail(self, reason: str, traceback: str | None = None) -> None:
        """Records why the cell failed, with the traceback if the cause looks like a bug."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"reason": reason, "traceback": traceback, "time": time}, ensure_ascii=False, indent=1)
        with replacing(self.failure) as file:
            file.write(f"{text}\n".encode())

    def clear(self) -> None:
        """Removes the leftovers of an unfinished fit, except for records and the W&B run."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if path.name == "wandb":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in {self.results.name, self.failure.name, LOCK_NAME}:
                path.unlink()
