"""The model, data and uninterrupted runs that tests of interrupted runs share."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.support.resuming import Place, make_place, run


@pytest.fixture(scope="session")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The model and the data."""
    return make_place(tmp_path_factory.mktemp("resume"))


@pytest.fixture
def place(shared_place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The model and the data, with a datasets cache next to them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(shared_place.data).parent / "cache")
    return shared_place


@pytest.fixture(scope="session")
def uninterrupted(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of an uninterrupted run with these settings, which saves only between rounds; needs ``place``."""

    @cache
    def made(settings: str) -> dict[str, Any]:
        return run(shared_place, tmp_path_factory.mktemp("whole"), every=None, **json.loads(settings))

    return lambda **settings: made(json.dumps(settings))
