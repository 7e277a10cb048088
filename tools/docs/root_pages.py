"""A hook of mkdocs: the pages that lie at the project's root are on the site too, and links lead to and from them.

The files themselves keep the links that work where the repository is browsed.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {name: f"{name.lower()}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")}
"""The root's files (without `.md`), and their pages on the site."""


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the root's pages."""
    root = Path(config.config_file_path).parent
    for name, place in PAGES.items():
        text = (root / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        files.append(File.generated(config, place, content=between_roots(text, "")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leads links from `docs/` to the root's files to their pages."""
    return between_roots(markdown, r"\.\./")


def between_roots(text: str, way: str) -> str:
    """Links to the root's files, as seen from a folder that the pattern leads up from, as links between pages."""
    return re.sub(rf"\]\({way}({'|'.join(PAGES)})\.md", lambda found: f"]({PAGES[found[1]]}", text)
