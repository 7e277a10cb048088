"""Shell completion of the whole command, options of the training commands included."""

import argparse
from typing import NoReturn

import shtab

from lnsub.cli import commands
from lnsub.cli.main import OTHERS, TRAINING
from lnsub.cli.training import TrainingCLI


class _ParserMade(Exception):  # noqa: N818 (not an error: it carries the parser out)
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class _ParserOnly(TrainingCLI):
    """Stops as soon as the parser is there."""

    def parse_arguments(self, parser: argparse.ArgumentParser, args: object) -> NoReturn:
        raise _ParserMade(self._subcommand_parsers[self._command])


def training_parser(command: str) -> argparse.ArgumentParser:
    """The parser of a training command."""
    try:
        _ParserOnly(command, None)
    except _ParserMade as made:
        return made.parser
    raise AssertionError("a parser is always made")


def script(shell: str) -> str:
    """A completion script for ``bash``, ``zsh`` or ``tcsh``."""
    whole = argparse.ArgumentParser(prog="lnsub")
    whole.add_argument("--version", action="store_true")
    whole.add_argument("--debug", action="store_true")
    parsers = whole.add_subparsers()
    for name, text in {**TRAINING, **OTHERS}.items():
        made = training_parser(name) if name in TRAINING else commands.parser_of(name)
        parsers.add_parser(name, help=text)
        parsers.choices[name] = made
    return shtab.complete(whole, shell)
