"""The base model of the tests of exports."""

from pathlib import Path

import pytest

from lnsub.models.inherited import Theta0
from tests.support.exports import WORDS
from tests.support.models import save_checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny-bert", WORDS)


@pytest.fixture(scope="module")
def theta_0(base: Path) -> Theta0:
    return Theta0.load(str(base))
