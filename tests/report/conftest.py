from pathlib import Path

import pytest

from lnsub.report import Made, report
from tests.support.report_tree import write_imp, write_tree


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree") / "runs")


@pytest.fixture(scope="session")
def made(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return report(tree, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for language in ("ar", "fr"):
        write_imp(root, "wikiann", language)
    return root
