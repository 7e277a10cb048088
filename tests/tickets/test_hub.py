"""Names of files on the Hub. What is fetched by them is tested with the pushes, in tests/export."""

from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.tickets.hub import HubName, expanded, local_file


@pytest.mark.parametrize(
    ("text", "repository", "revision", "path"),
    [
        ("hf://a/b/c.safetensors", "a/b", None, "c.safetensors"),
        ("hf://a/b@v1.0/c/d.safetensors", "a/b", "v1.0", "c/d.safetensors"),
        ("hf://a/b@dev%2Ffr/c", "a/b", "dev/fr", "c"),
        ("hf://a/b@refs/pr/3/c", "a/b", "refs/pr/3", "c"),
        ("hf://a/b/tickets/en+fa/s@1.safetensors", "a/b", None, "tickets/en+fa/s@1.safetensors"),
    ],
)
def test_a_name_has_a_repository_a_revision_and_a_path(
    text: str, repository: str, revision: str | None, path: str
) -> None:
    name = HubName.parse(text)
    assert (name.repository, name.revision, name.path) == (repository, revision, path)
    assert HubName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text", ["hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf://a/b@/c", "hf://a/b/../c", "hf://a/b//c", "hf://a b/c/d"]
)
def test_what_names_no_file_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="Hugging Face Hub"):
        HubName.parse(text)


def test_files_here_stay_as_they_are() -> None:
    assert expanded(["a", Path("b/*.safetensors")]) == ["a", "b/*.safetensors"]
    assert local_file("a/b") == Path("a/b")


def test_a_pattern_is_no_single_file() -> None:
    with pytest.raises(UserError, match="one file is needed"):
        local_file("hf://a/b/*.safetensors")
