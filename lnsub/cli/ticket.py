"""`lnsub ticket info|verify`."""

import argparse
import sys
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = "Describes tickets or checks their integrity."
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|verify")
    info = actions.add_parser(
        "info", help="print provenance and sparsity, and for a single ticket the density by layer"
    )
    info.add_argument("tickets", nargs="+", type=Path, metavar="TICKET")
    info.set_defaults(call=_info)
    verify = actions.add_parser(
        "verify", help="check each file's format, shapes and checksum; exit status 2 if one is bad"
    )
    verify.add_argument("tickets", nargs="+", type=Path, metavar="TICKET")
    verify.set_defaults(call=_verify)


def _info(options: argparse.Namespace) -> int:
    from lnsub.tickets.info import print_tickets

    print_tickets(options.tickets)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.tickets.info import verify

    lines, good = verify(options.tickets)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if not good:
        bad = sum(not line.startswith("ok ") for line in lines)
        raise UserError(f"{bad} of {len(lines)} files are not whole tickets: the lines above say which, and why.")
    return 0
