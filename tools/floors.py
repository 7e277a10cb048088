"""Prints the lowest versions that pyproject.toml promises, as constraints for pip: `make floors` installs them.

torch alone is pinned as in constraints.txt, as each of its versions may be gigabytes. Its floor is 2.11, the first with
`scale` among the arguments of `torch.nn.attention.varlen.varlen_attn`; everything else that lnsub uses of it is older.
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
        pyproject: the text of pyproject.toml; optional dependencies count too.
        constraints: the text of constraints.txt, which torch's pin is taken from.

    Returns:
        The version by canonical name.

    Raises:
        ValueError: a requirement has no lower bound, or two different ones.
    """
    project = tomllib.loads(pyproject)["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    found: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        bounds = {Version(bound.version) for bound in requirement.specifier if bound.operator in (">=", "==", "~=")}
        name = canonicalize_name(requirement.name)
        if len(bounds | ({found[name]} if name in found else set())) != 1:
            raise ValueError(f"pyproject.toml: {name} needs one lower bound, written once or alike: {requirement}")
        found[name] = bounds.pop()
    pinned = {Requirement(line).name: line for line in constraints.splitlines() if line.startswith("torch==")}
    found["torch"] = Version(pinned["torch"].partition("==")[2])
    return found


def main() -> int:
    """Prints one pin a line."""
    pins = floors((ROOT / "pyproject.toml").read_text("utf-8"), (ROOT / "constraints.txt").read_text("utf-8"))
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
