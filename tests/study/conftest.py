"""What tests of studies share: a tiny study, and its plan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from lnsub.study.file import read_study
from lnsub.study.plan import Plan, make_plan
from tests.support.study_world import make_study_world, write_study


@pytest.fixture(scope="session")
def study_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data of two tasks in three languages and their configurations; to be read only."""
    root = tmp_path_factory.mktemp("study")
    make_study_world(root)
    return root


@pytest.fixture
def planned(study_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Makes the plan of a study with changes; its folder is the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def plan(**changes: Any) -> Plan:
        name = f"study-{len(list(study_world.glob('study-*')))}.yaml"
        return make_plan(read_study(write_study(study_world, name, **{"output": str(tmp_path / "out"), **changes})))

    return plan
