"""The hardware and software that a run was measured with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lnsub", "torch", "lightning", "transformers", "numpy")


def describe() -> dict[str, Any]:
    """Describes processor, memory, versions and load, in plain JSON types."""
    import torch

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "from source"
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": versions,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def as_sentence(machine: dict[str, Any]) -> str:
    """Formats :func:`describe` as one line."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, torch on {machine['threads']} threads",
        f"{machine['memory_gb']:g} GB of memory",
        *([machine["gpu"]] if machine["gpu"] else []),
        versions,
        f"load {machine['load'][0]:g} at the start",
        machine["time"][:10],
    ]
    return "; ".join(parts)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _field(path: str, key: str) -> str:
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
