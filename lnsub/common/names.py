"""Names that become folders and files: languages, tasks and the parts of mixtures; and names of folders or the Hub."""

from pathlib import Path

from lnsub.common.errors import UserError

LONGEST = 200
"""The most bytes of a folder's name; file systems take 255, and names are joined to others."""


def name_problem(name: str) -> str:
    """Tells why a name is not one plain path component; empty where it is.

    A mixture such as ``en+fa`` is one where each of its parts is.
    """
    for part in name.split("+"):
        if not part:
            return "it is empty or has an empty part"
        if part.startswith("."):
            return "it starts with a dot"
        if "/" in part or "\\" in part:
            return "it is a path"
        if not part.isprintable() or part != part.strip():
            return "it has blanks around it or characters that cannot be printed"
        if len(part.encode()) > LONGEST:
            return f"it has more than {LONGEST} bytes"
    return ""


def plain_name(what: str, name: str) -> str:
    """Returns a name that may become a folder's or a file's, or refuses it.

    Args:
        what: what it names, as the message should call it: ``"language"``.
        name: the name.

    Raises:
        UserError: it is not one plain path component, and might lead out of the folder that it is meant for.
    """
    problem = name_problem(name) or (f"it has more than {LONGEST} bytes" if len(name.encode()) > LONGEST else "")
    if problem:
        raise UserError(
            f"The {what} {name[:40]!r} cannot be the name of a folder, as {problem}: give a plain one, such as fr."
        )
    return name


def looks_local(name: str) -> bool:
    """Tells whether ``name`` is a folder here, or is written like one, rather than a name on the Hub."""
    path = Path(name).expanduser()
    return path.is_dir() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name
