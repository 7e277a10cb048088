"""`lnsub completion`."""

import argparse
import sys


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Prints a completion script, which takes a few seconds. For bash:\n"
        "  lnsub completion bash > ~/.local/share/bash-completion/completions/lnsub"
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    parser.set_defaults(call=_print)


def _print(options: argparse.Namespace) -> int:
    from lnsub.cli.completion_script import script

    sys.stdout.write(script(options.shell))
    return 0
