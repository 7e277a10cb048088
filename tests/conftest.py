"""Fixtures shared by all tests: nothing here reaches the network, W&B's site or the user's caches."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and a real model, where there are any; the test is skipped elsewhere."""
    path = Path(os.environ.get("LNSUB_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir() or not (path / "models").is_dir():
        pytest.skip(f"needs real data in {path}")
    return path


LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Takes away what Lightning tells the processes of a run, and leaves in the environment of a test that was one."""
    for name in LAUNCHER:
        os.environ.pop(name, None)
    yield
    for name in LAUNCHER:
        os.environ.pop(name, None)
