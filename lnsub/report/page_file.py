"""The file that a report's page is, told from others before it is replaced; needs nothing of what draws it."""

from pathlib import Path

from lnsub.common.files import check_output, starts_with

TITLE = "How language-neutral"
"""How the title of every page begins, which tells it from other HTML: a report replaces none but its own."""


def check_page(output: Path) -> None:
    """Refuses to replace what is not the page of an earlier report; call it before the work.

    Raises:
        UserError: it is another file, a folder, a device or a FIFO.
    """
    check_output(output, "the page of a report", is_page)


def is_page(path: Path) -> bool:
    """Whether a file is the page of a report."""
    return path.is_file() and f"<title>{TITLE}".encode() in starts_with(path)
