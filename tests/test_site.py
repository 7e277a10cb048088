"""The docs as a site: complete, strict, and with nothing that a reader's browser would fetch from elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from mkdocstrings import Inventory

import lnsub
from lnsub.cli.main import OTHERS, TRAINING
from lnsub.tasks import data_modules

ROOT = Path(__file__).parents[1]
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""The attributes of elements by which a browser fetches something; of `link` it depends on the relation."""


class Fetching(HTMLParser):
    """Collects what a page has a browser fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(FETCHED.get(tag, ""))
        if tag == "link" and values.get("rel") not in {"canonical", "prev", "next"}:
            address = values["href"]
        if address is not None:
            self.addresses.append(address)


def nav_pages(nav: Any) -> Iterator[str]:
    """The pages that a navigation of mkdocs names, at any depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from nav_pages(part)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_every_page_is_in_the_navigation_once():
    named = list(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    written += [f"{path.stem.lower()}.md" for path in ROOT.glob("*.md") if path.stem != "README"]
    assert sorted(named) == sorted(written)


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site):
    pages = [path for path in site.rglob("*.html") if path.parent.name != "study"]
    assert len(pages) > 20
    fetched = {address for page in pages for address in Fetching(page.read_text(encoding="utf-8")).addresses}
    for sheet in site.rglob("*.css"):
        fetched |= set(re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8")))
    assert any(address.endswith("site.css") for address in fetched)
    assert {address for address in fetched if re.match(r"(?:\w+:)?//", address)} == set()


@pytest.mark.slow
def test_every_command_is_on_the_page_with_its_options(site):
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="([\w-]+)"', page) == [*TRAINING, *OTHERS]
    for name in [*TRAINING, *OTHERS, "ticket info", "ticket verify"]:
        assert f"usage: lnsub {name} " in page, name
    assert "--checkpoint_every_minutes" in page
    assert "--neutrality" in page


@pytest.mark.slow
def test_every_public_name_is_in_the_api(site):
    with (site / "objects.inv").open("rb") as file:
        documented = {name.rpartition(".")[2] for name in Inventory.parse_sphinx(file)}
    public = {name for name in lnsub.__all__ if not name.startswith("_")}
    assert public | data_modules().keys() <= documented


@pytest.mark.slow
def test_no_role_of_a_docstring_is_left_as_it_is_written(site):
    for page in (site / "api").glob("*.html"):
        assert not re.search(r":(?:mod|class|func|meth|data|attr):", page.read_text(encoding="utf-8")), page.name
