"""`lnsub combine`."""

import argparse
import os
import sys
from pathlib import Path

HOW = {
    "union": "kept in any",
    "intersection": "kept in all: the language-neutral core",
    "majority": "kept in more than half",
    "difference": "kept in the first and in none of the others: the language-specific rest",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    ways = "\n".join(f"  {how:<14}{what}" for how, what in HOW.items())
    parser.description = f"Combines several tickets of one base model into a new ticket.\n{ways}"
    parser.add_argument("how", choices=list(HOW), metavar="|".join(HOW))
    parser.add_argument("tickets", nargs="+", metavar="TICKET")
    parser.add_argument("--output", type=Path, required=True, metavar="F", help="the ticket file to write")
    parser.add_argument("--force", action="store_true", help="replace F where it is a ticket already")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.common.files import check_output
    from lnsub.tickets.combining import combine
    from lnsub.tickets.file_format import is_ticket
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.ticket import Ticket

    # Unlike resolve(), realpath() bears with links that lead to themselves.
    if os.path.realpath(options.output) in map(os.path.realpath, options.tickets):
        raise UserError(f"--output {options.output} is one of the tickets to combine: choose another file")
    check_output(options.output, "a ticket", is_ticket)
    if options.output.exists() and not options.force:
        raise UserError(f"{options.output} exists: name another file, or give --force to replace it")
    tickets = [Ticket.load(path) for path in expanded(options.tickets)]
    made = combine(tickets, options.how)
    made.save(options.output)
    left_out = sorted({name for ticket in tickets for name in ticket.masks} - made.masks.keys())
    sys.stdout.write(
        f"{options.output}: {options.how} of {len(tickets)} tickets, sparsity {made.sparsity:.4f} "
        f"({made.kept:,} of {made.total:,} weights kept, in {len(made.masks)} matrices)"
        + (f"; left out, as not all tickets have them: {', '.join(left_out)}" if left_out else "")
        + "\n"
    )
    return 0
