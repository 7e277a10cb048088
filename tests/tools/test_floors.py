import pytest
from packaging.version import Version

from tools.floors import floors

PYPROJECT = """
[project]
dependencies = ["torch>=2.1", "lightning>=2.6,<2.7", "Jsonargparse[signatures]>=4.51.1"]
[project.optional-dependencies]
dev = ["pytest ~= 8.3", "lightning>={bound}"]
"""


def test_each_lower_bound_is_pinned_and_torch_as_in_the_constraints():
    found = floors(PYPROJECT.format(bound="2.6.0"), "# torch\nlightning==2.6.9\ntorch==2.3.4\n")
    assert found == {
        "torch": Version("2.3.4"),
        "lightning": Version("2.6"),
        "jsonargparse": Version("4.51.1"),
        "pytest": Version("8.3"),
    }


def test_two_bounds_of_one_package_are_refused():
    with pytest.raises(ValueError, match="lightning"):
        floors(PYPROJECT.format(bound="2.5"), "torch==2.3.4\n")


def test_a_requirement_without_a_lower_bound_is_refused():
    with pytest.raises(ValueError, match="rich"):
        floors(PYPROJECT.format(bound="2.6").replace("torch>=2.1", "rich<20"), "torch==2.3.4\n")


def test_every_requirement_of_the_project_has_one_lower_bound(root):
    found = floors((root / "pyproject.toml").read_text("utf-8"), (root / "constraints.txt").read_text("utf-8"))
    assert {"torch", "lightning", "pytest"} <= found.keys()
