"""The README and the docs are true: every `lnsub` command in them is one that lnsub takes."""

import re
import shlex
from pathlib import Path

import pytest

from lnsub.cli import commands
from lnsub.cli.main import OTHERS, TRAINING
from tests.support.command import parsed

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def shown() -> list[str]:
    """The commands on lines of their own in code blocks, continued lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"^ *(?:\$ )?(lnsub [a-z].*?)(?: {2,}#.*)?$", text, re.M)
    return sorted(set(found))


def test_there_are_commands_to_check():
    assert len(shown()) >= 10


@pytest.mark.parametrize("line", shown())
def test_a_command_in_the_docs_is_one_that_lnsub_takes(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *args = shlex.split(line, comments=True)[1:]
    if command in TRAINING:
        assert parsed([command, *args])["data"]["class_path"]
    else:
        assert command in OTHERS
        assert commands.parser_of(command).parse_args(args).call


def test_links_in_the_docs_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
