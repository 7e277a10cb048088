"""The commands beside training: their options, and the call that each is. What takes long to import waits till then."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lnsub.errors import UserError


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Makes one command's parser."""
    parser = _Parser(prog=f"lnsub {command}", formatter_class=argparse.RawDescriptionHelpFormatter)
    _OPTIONS[command](parser)
    return parser


def run(command: str, args: list[str]) -> int:
    """Parses and runs one command; returns the exit status."""
    options = parser_of(command).parse_args(args)
    return options.call(options)


# lnsub ticket -------------------------------------------------------------------------------------------------------


def _ticket(parser: argparse.ArgumentParser) -> None:
    parser.description = "What a ticket is, and whether it is whole."
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|verify", parser_class=_Parser)
    info = actions.add_parser("info", help="print provenance, sparsity, and with one ticket the density by layer")
    info.add_argument("tickets", nargs="+", type=Path, metavar="TICKET")
    info.set_defaults(call=_ticket_info)
    verify = actions.add_parser("verify", help="check each file's format, shapes and checksum; exit 2 if one is bad")
    verify.add_argument("tickets", nargs="+", type=Path, metavar="TICKET")
    verify.set_defaults(call=_ticket_verify)


def _ticket_info(options: argparse.Namespace) -> int:
    from lnsub.show import info_text, ticket_info

    sys.stdout.write(info_text(ticket_info(options.tickets)) + "\n")
    return 0


def _ticket_verify(options: argparse.Namespace) -> int:
    from lnsub.show import verify

    lines, ok = verify(options.tickets)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if ok else 2


# lnsub demo ---------------------------------------------------------------------------------------------------------


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Finds tickets for several languages with the embedded model and data, compares them, and draws the result.\n"
        "Needs no network; a few minutes on two CPU cores."
    )
    parser.add_argument("--output", type=Path, default=Path("lnsub-demo"), help="folder to write to (default: %(default)s)")
    parser.add_argument("--languages", default="en,fr,ru", help="languages of the embedded data (default: %(default)s)")
    parser.set_defaults(call=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from lnsub.demo.run import demo

    demo(options.output, [language.strip() for language in options.languages.split(",")])
    return 0


# lnsub completion ---------------------------------------------------------------------------------------------------


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a completion script (it takes some seconds to make). For bash:\n"
        "  lnsub completion bash > ~/.local/share/bash-completion/completions/lnsub"
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    parser.set_defaults(call=_print_completion)


def _print_completion(options: argparse.Namespace) -> int:
    from lnsub.completion import script

    sys.stdout.write(script(options.shell))
    return 0


_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "ticket": _ticket,
    "demo": _demo,
    "completion": _completion,
}
