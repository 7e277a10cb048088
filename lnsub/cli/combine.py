"""`lnsub combine`."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.options import named

if TYPE_CHECKING:
    from lnsub.tickets.ticket import Ticket

HOW = {
    "union": "kept in any",
    "intersection": "kept in all: the language-neutral core",
    "majority": "kept in more than half",
    "difference": "kept in the first and in none of the others: the language-specific rest",
    "departures": "the inherited mask with a part of what OWN and FOREIGN change of it, see below",
}

PARTS = """departures:
  OWN and FOREIGN depart from the inherited mask where they keep what it prunes, or prune what it keeps. --part shared
  takes what both change, own what OWN alone changes, foreign what FOREIGN alone does. All three are drawn down to one
  size, as many weights kept and as many pruned, so that they compare, and are as sparse as the inherited mask."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    ways = "\n".join(f"  {how:<14}{what}" for how, what in HOW.items())
    parser.description = f"Combines several tickets of one base model into a new ticket.\n{ways}"
    parser.epilog = PARTS
    parser.add_argument("how", choices=list(HOW), metavar="|".join(HOW))
    parser.add_argument("tickets", nargs="+", metavar="TICKET")
    parser.add_argument(
        "--inherited",
        type=named,
        metavar="MASK",
        help="for departures: the inherited mask, as `lnsub overlap --inherited --inherited-output DIR` saves it",
    )
    parser.add_argument("--part", choices=["shared", "own", "foreign"], help="for departures: which")
    parser.add_argument("--seed", type=int, metavar="N", help="for departures: seed of the draw (default: 0)")
    parser.add_argument("--output", type=Path, required=True, metavar="F", help="the ticket file to write")
    parser.add_argument("--force", action="store_true", help="replace F where it is a ticket already")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.common.files import check_output
    from lnsub.tickets.file_format import is_ticket
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.ticket import Ticket

    _check_departures(options)
    inputs = [*options.tickets, *([options.inherited] if options.inherited else [])]
    # Unlike resolve(), realpath() bears with links that lead to themselves.
    if os.path.realpath(options.output) in map(os.path.realpath, inputs):
        raise UserError(f"--output {options.output} is one of the tickets to combine: choose another file")
    check_output(options.output, "a ticket", is_ticket)
    if options.output.exists() and not options.force:
        raise UserError(f"{options.output} exists: name another file, or give --force to replace it")
    tickets = [Ticket.load(path) for path in expanded(inputs)]
    made, what = _combined(options, tickets)
    made.save(options.output)
    left_out = sorted({name for ticket in tickets for name in ticket.masks} - made.masks.keys())
    sys.stdout.write(
        f"{options.output}: {what}, sparsity {made.sparsity:.4f} "
        f"({made.kept:,} of {made.total:,} weights kept, in {len(made.masks)} matrices)"
        + (f"; left out, as not all tickets have them: {', '.join(left_out)}" if left_out else "")
        + "\n"
    )
    return 0


def _check_departures(options: argparse.Namespace) -> None:
    """Refuses options that do not go with the way to combine."""
    from lnsub.common.errors import UserError

    if options.how != "departures":
        for name in ("inherited", "part", "seed"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} goes with `lnsub combine departures`, not with {options.how}: leave it out")
        return
    for name, value in (("inherited MASK", options.inherited), ("part shared|own|foreign", options.part)):
        if value is None:
            raise UserError(f"departures need --{name}: see `lnsub combine --help`")
    if options.seed is not None and not 0 <= options.seed < 2**32:
        raise UserError(f"--seed takes a whole number from 0 to {2**32 - 1}, not {str(options.seed)[:40]}")


def _combined(options: argparse.Namespace, tickets: "list[Ticket]") -> "tuple[Ticket, str]":
    """The made ticket, and what it is in words."""
    from lnsub.common.errors import UserError
    from lnsub.tickets.combining import combine
    from lnsub.tickets.departing import part_of_departures

    if options.how != "departures":
        return combine(tickets, options.how), f"{options.how} of {len(tickets)} tickets"
    if len(tickets) != 3:
        raise UserError(
            f"departures are of two tickets, OWN and FOREIGN, and one inherited mask: got {len(tickets)} files"
        )
    own, foreign, inherited = tickets
    found = part_of_departures(own, foreign, inherited, options.part, options.seed or 0)
    small, large = found.of
    return found.ticket, (
        f"{options.part} departures of {own.label} and {foreign.label}, {found.drawn:,} of {small:,} weights kept "
        f"though small and {found.drawn:,} of {large:,} pruned though large"
    )
