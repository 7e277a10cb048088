"""Promises the project's own files make to one another and to whoever clones them."""

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LARGEST_FILE = 6_000_000  # bytes

# None of these matches its own text, so this file needs no exception.
MACHINE_PATH = re.compile(r"(?<![\w.~$}\]-])/(?:(?:work|root)|(?:home|Users)/[A-Za-z][\w.-]*)/")
REGISTRY_HOST = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|registry\.npmjs\.org)\b")


def declared() -> list[Requirement]:
    """The requirements that `pip install -e .[dev]` starts from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def pins() -> dict[str, Version]:
    """Each constraint's canonical name and version; every line must be one exact pin, and no name may come twice."""
    versions: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.+!]+)", line)
        assert match, f"constraints.txt: {line!r} is not name==version"
        name = canonicalize_name(match[1])
        assert name not in versions, f"constraints.txt: {name} twice"
        versions[name] = Version(match[2])
    return versions


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


def matching_lines(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` for each line of a tracked text file that ``pattern`` is found in."""
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def test_every_declared_dependency_is_pinned_inside_its_range():
    versions = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} has no pin in constraints.txt"
        assert requirement.specifier.contains(versions[name], prereleases=True), f"{requirement}: {versions[name]}"


def test_everything_the_dependencies_pull_in_is_pinned():
    versions = pins()
    pending = declared()
    seen: set[tuple[str, frozenset[str]]] = set()
    unpinned = set()
    while pending:
        requirement = pending.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            further = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # an environment without the dev tools
            continue
        # A GPU build of torch brings NVIDIA's packages, in the versions that build itself fixes.
        if name not in versions and not name.startswith(("nvidia-", "cuda-", "triton")):
            unpinned.add(name)
        for child in further:
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                pending.append(child)
    assert len(seen) > len(declared())
    assert not unpinned


def test_no_pin_names_a_local_build():
    # torch==2.13.0+cpu could not be installed where that build is not on offer: on a GPU machine, for one.
    assert [name for name, version in pins().items() if version.local] == []


def test_folders_are_the_concepts_and_nothing_else_is_at_the_top():
    assert {path.name for path in (ROOT / "lnsub").glob("*.py")} == {"__init__.py", "__main__.py", "version.py"}


def test_tests_mirror_the_folders():
    def folders(place: Path) -> set[str]:
        return {path.parent.name for path in place.glob("*/__init__.py")}

    assert folders(ROOT / "tests") - folders(ROOT / "lnsub") <= {
        "attacks",
        "benchmarks",
        "gpu_counts",
        "slurm",
        "support",
        "tools",
    }


@pytest.mark.parametrize("parts", [("work", "main"), ("root", "x"), ("home", "ann", "x"), ("Users", "ann", "x")])
def test_a_machine_path_is_recognised(parts):
    path = "/" + "/".join(parts)
    assert MACHINE_PATH.search(f"cd {path}")
    assert MACHINE_PATH.search(f'"{path}"')
    assert not MACHINE_PATH.search(f"shared{path}")
    assert not MACHINE_PATH.search(f"..{path}")


def test_no_tracked_file_names_a_path_of_one_machine():
    assert matching_lines(MACHINE_PATH) == []


def test_no_tracked_file_names_a_package_registry():
    assert matching_lines(REGISTRY_HOST) == []


def test_no_tracked_file_is_too_large_for_git():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked_files()}
    assert {name: size for name, size in sizes.items() if size >= LARGEST_FILE} == {}
