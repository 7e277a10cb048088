"""Shell completion for all commands, including the options of the training commands."""

import argparse

import shtab

from lnsub.cli import commands
from lnsub.cli.main import OTHERS, TRAINING
from lnsub.training.config import run_parser


def script(shell: str) -> str:
    """Builds a completion script for ``bash``, ``zsh`` or ``tcsh``."""
    whole = argparse.ArgumentParser(prog="lnsub")
    whole.add_argument("--version", action="store_true")
    whole.add_argument("--debug", action="store_true")
    parsers = whole.add_subparsers()
    for name, text in {**TRAINING, **OTHERS}.items():
        made = run_parser(name) if name in TRAINING else commands.parser_of(name)
        parsers.add_parser(name, help=text)
        parsers.choices[name] = made
    return shtab.complete(whole, shell)
