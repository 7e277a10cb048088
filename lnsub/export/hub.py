"""Files into a model repository on the Hugging Face Hub, in one commit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.common.errors import UserError
from lnsub.common.hub import LIBRARY, check_repository, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True)
class Repository:
    """A model repository that is pushed to, as it was when it was opened.

    Attributes:
        api: the Hub's client.
        name: ``ORG/NAME``.
        revision: the branch; None for the default one.
        commit: the newest commit on it.
        files: paths of all files at that commit.
    """

    api: "HfApi"
    name: str
    revision: str | None
    commit: str
    files: frozenset[str]

    @classmethod
    def open(cls, name: str, *, private: bool = False, revision: str | None = None) -> "Repository":
        """Opens a repository, which is made where there is none.

        Args:
            name: ``ORG/NAME``.
            private: make a private one, and refuse one that everybody can see.
            revision: a branch, made from the default one where there is none.

        Raises:
            UserError: there may be no such repository, it is public where a private one is asked for, the token may
                not write to it, or the Hub cannot be reached.
        """
        from huggingface_hub import HfApi

        check_repository(name)
        api = HfApi(library_name=LIBRARY)
        with hub_errors(name):
            # Without a choice, the organisation's default holds.
            api.create_repo(name, private=private or None, exist_ok=True)
            if revision is not None:
                api.create_branch(name, branch=revision, exist_ok=True)
            info = api.model_info(name, revision=revision)
        if private and not info.private:
            raise UserError(
                f"{name} exists on the Hugging Face Hub and is public, so that nothing in it is private: leave "
                "--private out, name another repository, or change its visibility in its settings"
            )
        assert info.sha is not None
        return cls(api, name, revision, info.sha, frozenset(file.rfilename for file in info.siblings or []))

    def commit_files(self, files: Mapping[str, str | Path | bytes], message: str) -> str:
        """Adds or replaces files in one commit, on top of the commit that was found on opening.

        Args:
            files: what to upload, files or bytes, by the path in the repository.
            message: the commit's first line.

        Returns:
            The repository's address.

        Raises:
            UserError: someone else has pushed since, the token may not write, or the Hub cannot be reached; nothing
                has changed in the repository.
        """
        from huggingface_hub import CommitOperationAdd

        with hub_errors(self.name):
            self.api.create_commit(
                self.name,
                [CommitOperationAdd(path, source) for path, source in sorted(files.items())],
                commit_message=message,
                revision=self.revision,
                parent_commit=self.commit,
            )
        return self.url

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        place = "" if self.revision is None else f"/tree/{self.revision}"
        return f"{self.api.endpoint}/{self.name}{place}"


def push_model(folder: Path, repository: Repository) -> str:
    """Pushes an exported model folder, all of it in one commit.

    Args:
        folder: from :func:`lnsub.export.folder.export`.
        repository: where to; what else it holds is kept.

    Returns:
        The repository's address.

    Raises:
        UserError: it holds tickets, whose card would be replaced; or see :meth:`Repository.commit_files`.
    """
    if any(path.startswith("tickets/") for path in repository.files):
        raise UserError(
            f"{repository.name} is a repository of tickets, whose card an exported model would replace: push to another"
        )
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return repository.commit_files(files, f"Add the sub-network {folder.name}")
