"""The commands other than the training ones, each in a file of its own.

A file ``<command>.py`` has ``add_options(parser)``, which sets the parser default ``call``: a function from the parsed
options to the exit status. Slow imports are inside that function, so that ``--help`` is fast.
"""

import argparse
from importlib import import_module
from typing import NoReturn

from lnsub.common.errors import UserError


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises a :class:`UserError` instead of exiting."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Builds one command's parser."""
    parser = CommandParser(prog=f"lnsub {command}", formatter_class=argparse.RawDescriptionHelpFormatter)
    import_module(f"lnsub.cli.{command}").add_options(parser)
    return parser


def run(command: str, args: list[str]) -> int:
    """Parses and runs one command; returns the exit status."""
    options = parser_of(command).parse_args(args)
    return options.call(options)
