"""Prints the lowest versions supported by pyproject.toml, as pip constraints: `make floors` installs them.

Only torch is pinned as in constraints.txt, because each version may be gigabytes. Its floor is 2.11, the first version
in which `torch.nn.attention.varlen.varlen_attn` has the argument `scale`.
"""

import sys
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def floors(pyproject: str, constraints: str) -> dict[str, Version]:
    """Finds the lowest version of each direct dependency.

    Args:
        pyproject: the text of pyproject.toml; optional dependencies are included.
        constraints: the text of constraints.txt, for torch's pin.

    Returns:
        The version by canonical name.

    Raises:
        ValueError: a requirement has no lower bound, or conflicting ones.
    """
    project = tomllib.loads(pyproject)["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    found: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        bounds = {Version(bound.version) for bound in requirement.specifier if bound.operator in (">=", "==", "~=")}
        name = canonicalize_name(requirement.name)
        if len(bounds | ({found[name]} if name in found else set())) != 1:
            raise ValueError(f"pyproject.toml: {name} needs exactly one lower bound: {requirement}")
        found[name] = bounds.pop()
    pinned = {Requirement(line).name: line for line in constraints.splitlines() if line.startswith("torch==")}
    found["torch"] = Version(pinned["torch"].partition("==")[2])
    return found


def main() -> int:
    """Prints one pin per line."""
    pins = floors((ROOT / "pyproject.toml").read_text("utf-8"), (ROOT / "constraints.txt").read_text("utf-8"))
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
