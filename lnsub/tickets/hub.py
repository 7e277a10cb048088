"""Tickets on the Hugging Face Hub, by names that stand wherever a ticket file is named.

``hf://ORG/NAME/tickets/xnli/fr/seed57/s0.50.safetensors`` is a file of a model repository, in its newest state;
``hf://ORG/NAME@REVISION/...`` one at a branch, tag or commit; in a list of tickets the path may be a glob pattern, with
``**`` for any depth of folders. Files come into the Hub's cache on this machine, and are read from there while
HF_HUB_OFFLINE is set.
"""

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from lnsub.common.errors import UserError
from lnsub.common.hub import LIBRARY, check_repository, hub_errors

SCHEME = "hf://"
"""How the name of a file on the Hub starts."""

# A revision has no slash except the Hub's own for pull requests; others are written as %2F, as the Hub's client does.
_NAME = re.compile(r"hf://(?:models/)?([^/@]+/[^/@]+)(?:@(refs/(?:pr|convert)/[^/]+|[^/]+))?/(.+)", re.DOTALL)


@dataclass(frozen=True)
class HubName:
    """The name of a file on the Hub, or of several by a pattern."""

    repository: str
    """``ORG/NAME``."""
    revision: str | None
    """A branch, tag or commit; None for the default branch."""
    path: str
    """The file's path in the repository, or a glob pattern."""

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Reads a name that starts with :data:`SCHEME`.

        Raises:
            UserError: it is not of the form ``hf://ORG/NAME[@REVISION]/PATH``.
        """
        parts = _NAME.fullmatch(text)
        if not parts:
            raise UserError(
                f"'{text[:200]}' does not name a file on the Hugging Face Hub: write hf://ORG/NAME/PATH, or "
                "hf://ORG/NAME@REVISION/PATH"
            )
        path = parts[3]
        if not path.isprintable() or "\\" in path or {"", ".", ".."} & set(path.split("/")):
            raise UserError(f"'{text[:200]}' does not name a file on the Hugging Face Hub: its path is not a plain one")
        return cls(check_repository(parts[1]), None if parts[2] is None else unquote(parts[2]), path)

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{self.repository}{revision}/{self.path}"

    @property
    def is_pattern(self) -> bool:
        """Whether it may stand for several files."""
        return glob.has_magic(self.path)


def on_hub(name: str | Path) -> bool:
    """Whether a name is that of a file on the Hub."""
    return str(name).startswith(SCHEME)


def local_file(name: str | Path) -> Path:
    """Returns the file of a name: a path as it is, a file on the Hub in the cache, into which it is fetched.

    Raises:
        UserError: it cannot be fetched, or is not the name of one file.
    """
    if not on_hub(name):
        return Path(name)
    from huggingface_hub import hf_hub_download

    found = HubName.parse(str(name))
    if found.is_pattern:
        raise UserError(f"'{found}' is a pattern, where one file is needed: name the file")
    with hub_errors(str(found)):
        return Path(hf_hub_download(found.repository, found.path, revision=found.revision, library_name=LIBRARY))


def expanded(names: Iterable[str | Path]) -> list[str]:
    """Returns names of single files: patterns on the Hub become the names of their files, others stay as they are.

    Raises:
        UserError: nothing matches a pattern, or its files cannot be fetched.
    """
    single: list[str] = []
    for name in names:
        pattern = HubName.parse(str(name)) if on_hub(name) else None
        single += _matches(pattern) if pattern is not None and pattern.is_pattern else [str(name)]
    return single


def _matches(pattern: HubName) -> list[str]:
    """Fetches the files of a pattern; their names, each at the commit that the pattern was looked up at."""
    files, commit = fetch(pattern.repository, [pattern.path], pattern.revision)
    if not files:
        raise UserError(f"No file on the Hugging Face Hub matches '{pattern}': look at the repository's page.")
    return [str(HubName(pattern.repository, commit, path)) for path in sorted(files)]


def fetch(repository: str, patterns: Sequence[str], revision: str | None) -> tuple[dict[str, Path], str]:
    """Fetches all files of a repository that match any of some patterns.

    Args:
        repository: ``ORG/NAME``.
        patterns: glob patterns of paths in it, with ``**`` for any depth of folders.
        revision: a branch, tag or commit; None for the default branch.

    Returns:
        The files in the cache by their paths in the repository, and the commit that they are of.

    Raises:
        UserError: they cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    # The client's * matches slashes too, so that this takes more than the pattern does, never less; what it is by the
    # rules of the shell, which hold for local patterns, is seen among the files.
    wider = [re.sub(r"\*+/\*+|\*\*/?", "*", pattern) for pattern in patterns]
    with hub_errors(str(HubName(repository, revision, patterns[0]))):
        folder = snapshot_download(repository, revision=revision, allow_patterns=wider, library_name=LIBRARY)
    root = Path(folder)
    # As for patterns of files here: a ** at the end means files too.
    found = {path for pattern in patterns for path in glob.glob(pattern, root_dir=root, recursive=True)}  # noqa: PTH207
    paths = {PurePosixPath(path).as_posix(): root / path for path in found if (root / path).is_file()}
    return paths, root.name
