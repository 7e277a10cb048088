"""Sections of a Markdown file that programs write, each between two comments; what people write around them stays."""

from pathlib import Path


def replace_section(path: Path, name: str, text: str) -> None:
    """Replaces what is between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``, once each on a line of its own.

    Raises:
        ValueError: the file has no such section.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no section between {begin.strip()} and {end.strip()}")
    path.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
