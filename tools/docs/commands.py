"""A hook of mkdocs: the page of commands gets each command's options, as the command itself prints them.

`docs/commands.md` has a section for a command where there is something to say beyond its options. A command without one
gets a section of its own, so that a new command is on the page from its first day.
"""

import io
import os
import re
from contextlib import redirect_stdout
from textwrap import indent
from typing import Any

from lnsub.cli.main import OTHERS, TRAINING, main

PAGE = "commands.md"
WIDTH = "96"
"""Columns of the printed options: what fits between the page's two menus."""
BELOW = re.compile(r"\{?([\w-]+(?:[|,][\w-]+)+)\}? \.\.\.")
"""How the usage names a command's own sub-commands: `info|verify ...`."""
SECTION = re.compile(r"^## (.+)\n", re.M)


def printed(*command: str) -> str:
    """What `lnsub COMMAND --help` prints."""
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), WIDTH
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            main([*command, "--help"])
    except SystemExit:  # argparse leaves so after its help
        pass
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return text.getvalue().rstrip()


def options(*command: str) -> str:
    """The options of a command and of its own sub-commands, as boxes that open."""
    text = printed(*command)
    block = indent(f"```text\n{text}\n```", "    ")
    box = f'??? abstract "lnsub {" ".join(command)} --help"\n\n{block}\n'
    below = BELOW.search(text.partition("\n\n")[0])
    return "\n".join([box, *(options(*command, name) for name in (re.split(r"[|,]", below[1]) if below else []))])


def with_options(page: str) -> str:
    """The page of commands with the options at the end of each command's section.

    Args:
        page: Markdown whose second-level headings are names of commands.

    Raises:
        ValueError: a heading names no command.
    """
    opening, *parts = SECTION.split(page)
    written = dict(zip(parts[::2], parts[1::2], strict=True))
    known = {**TRAINING, **OTHERS}
    if unknown := written.keys() - known.keys():
        raise ValueError(f"{PAGE}: no command is called {', '.join(sorted(unknown))}")
    sections = []
    for name, summary in known.items():
        text = written.get(name, f"\n{summary[0].upper()}{summary[1:]}.\n").strip()
        sections.append(f"## {name}\n\n{text}\n\n{options(name)}")
    return "\n".join([opening.rstrip() + "\n", *sections])


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fills the page of commands; the others stay as they are."""
    return with_options(markdown) if page.file.src_uri == PAGE else markdown
