"""Offline W&B runs read back by W&B's own tool, `wandb leet inspect`."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Inspected:
    """What one file has of a run."""

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    """What each metric is drawn against."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Artifacts that came out of the run, by name."""
    preempting: bool = False
    exit_code: int | None = None

    def values(self) -> list[tuple[int, str, Any]]:
        """Each value with the trainer's step and its key, ``epoch`` and ``imp/step`` left out."""
        return [
            (row["trainer/global_step"], key, value)
            for row in self.rows
            for key, value in row.items()
            if key[0] != "_" and key not in {"trainer/global_step", "epoch", "imp/step"}
        ]


def inspect(path: Path) -> Inspected:
    """Reads one ``run-ID.wandb``, or the folder that it is in."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = Inspected()
    for record in map(json.loads, out.splitlines()):
        value = record.get(record["type"], {})
        match record["type"]:
            case "run":
                found.id, found.project, found.name = value["run_id"], value["project"], value["display_name"]
                found.group, found.job_type = value.get("run_group", ""), value.get("job_type", "")
                found.tags = value.get("tags", [])
                found.config |= value["config"]["update"]
            case "config":
                found.config |= value.get("update", {})
            case "history":
                found.rows.append(value["item"])
            case "metric":
                if "step_metric" in value:
                    found.axes[value["name"]] = value["step_metric"]
            case "artifact":
                found.made[value["name"]] = value
            case "preempting":
                found.preempting = True
            case "exit":
                found.exit_code = value.get("exit_code", 0)
    return found
