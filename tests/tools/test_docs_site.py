"""The hooks that make the site: commands with and without a section, and links between the root and `docs/`."""

import pytest

from lnsub.cli.main import OTHERS, TRAINING
from tools.docs.commands import with_options
from tools.docs.root_pages import between_roots


def test_options_end_a_commands_section_and_a_command_without_one_gets_it():
    page = with_options("# Commands\n\nAll.\n\n## overlap\n\nMore on it.\n")
    assert page.startswith("# Commands\n\nAll.\n")
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [*TRAINING, *OTHERS]
    assert page.index("## overlap") < page.index("More on it.") < page.index("usage: lnsub overlap")
    assert "usage: lnsub ticket verify" in page


def test_a_section_of_no_command_is_refused():
    with pytest.raises(ValueError, match="no command is called prune-all"):
        with_options("# Commands\n\n## prune-all\n\nText.\n")


def test_links_to_the_root_lead_to_its_pages_on_the_site():
    text = "[a](../SECURITY.md#reporting), [b](../CONTRIBUTING.md), [c](data.md)"
    assert between_roots(text, r"\.\./") == "[a](security.md#reporting), [b](contributing.md), [c](data.md)"
