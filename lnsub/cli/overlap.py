"""`lnsub overlap`."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.options import add_inherited, comma_list
from lnsub.cli.output import check_table, emit

if TYPE_CHECKING:
    from lnsub.models.inherited import Theta0
    from lnsub.tickets.ticket import Ticket


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Compares tickets weight by weight: the overlap (Jaccard similarity) of each pair, the chance level at those\n"
        "densities, and the overlap corrected for chance: (overlap - chance) / (1 - chance). With inherited masks,\n"
        "also each ticket's departure from theta_0's magnitude mask, and the overlap of departures."
    )
    parser.add_argument(
        "tickets",
        nargs="+",
        metavar="TICKET",
        help="ticket files; inherited masks among them are the reference for the others",
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="layer,kind",
        help="also by layer, kind (query, key, ...), matrix or stack, or a combination of them; may be repeated. With "
        "neuron, head or row, tickets of that granularity are compared unit by unit instead of weight by weight",
    )
    parser.add_argument("--summary", action="store_true", help="also the means over pairs, by task and sparsity")
    parser.add_argument(
        "--shared",
        action="store_true",
        help="also the means over pairs by what the two share beside the base model: head, order of the data, rows, "
        "language",
    )
    parser.add_argument(
        "--contrast",
        action="append",
        default=[],
        metavar="RUNS,RUNS",
        help="also language against data sample, with a permutation test: pairs of one language in two sets of runs, "
        "such as seed57,seed57-sample1, against pairs of two languages; may be repeated",
    )
    add_inherited(parser)
    parser.add_argument(
        "--null",
        choices=["magnitude", "raked"],
        help="what flips depend on by themselves in the null of departures: |theta_0| (default), or the scales of "
        "rows and columns too, which takes minutes for a large model; requires --inherited",
    )
    parser.add_argument("--inherited-output", type=Path, metavar="DIR", help="save the masks that --inherited makes")
    parser.add_argument(
        "--reference",
        nargs="+",
        metavar="TICKET",
        help="tickets that take the place of inherited masks, one for each sparsity and scope, such as those of "
        "`lnsub prune --pooled`: departures from what the languages' samples give together; put it after the tickets",
    )
    parser.add_argument(
        "--neutrality",
        action="store_true",
        help="also the neutrality index: overlap across languages / between seeds of one language",
    )
    parser.add_argument(
        "--clusters",
        nargs="?",
        const="",
        metavar="N",
        help="also clusters of languages by overlap: N of them, or those of the largest gap; put it after the tickets",
    )
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument("--output", type=Path, metavar="F", help="write to a file instead of standard output")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.analysis.overlap.comparison import check_references, compare, split_inherited
    from lnsub.analysis.overlap.text import NO_CLUSTERS, NO_CONTRAST, NO_INDEX, comparison_text
    from lnsub.common.tables import to_csv, to_json
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.parameters import group_columns
    from lnsub.tickets.ticket import load_all

    by_unit, groupings = _groupings([tuple(comma_list("--by", by)) for by in options.by])
    for by in groupings:
        group_columns((), by)  # rejects a mistyped word before any file is read
    _check_inherited(options)
    cluster_count = _cluster_count(options.clusters)
    contrasts = [_two_sets(contrast) for contrast in options.contrast]
    check_table(options.output, ["chance"])
    tickets, inherited = split_inherited(load_all(expanded(options.tickets)))
    theta_0 = None
    if options.inherited is not None:
        theta_0, inherited = _inherit(tickets, inherited, options.inherited, options.inherited_output)
    if options.reference:
        inherited = load_all(expanded(options.reference))
        references = {Path(ticket.where).resolve() for ticket in inherited}
        tickets = [ticket for ticket in tickets if Path(ticket.where).resolve() not in references]
        check_references(tickets, inherited)
    _check_sets(contrasts, {ticket.provenance.run for ticket in tickets})
    comparison = compare(
        tickets,
        groupings,
        inherited=inherited,
        theta_0=theta_0,
        means=options.summary,
        indices=options.neutrality,
        clusters=options.clusters is not None,
        cluster_count=cluster_count,
        by_unit=by_unit,
        null=options.null or "magnitude",
        shared=options.shared,
        contrasts=contrasts,
    )
    if options.format == "table":
        text = comparison_text(comparison, None if options.output else _screen_width())
    else:
        text = (to_csv if options.format == "csv" else to_json)(comparison.rows())
        if options.neutrality and not comparison.indices:
            sys.stderr.write(f"{NO_INDEX}\n")
        if contrasts and not comparison.contrasts:
            sys.stderr.write(f"{NO_CONTRAST}\n")
        if options.clusters is not None and not comparison.clusters:
            sys.stderr.write(f"{NO_CLUSTERS}\n")
    emit(text, options.output)
    return 0


def _groupings(asked: list[tuple[str, ...]]) -> tuple[str | None, list[tuple[str, ...]]]:
    """Tells the units that are to be compared from what the comparison is grouped by."""
    from lnsub.common.errors import UserError
    from lnsub.tickets.units import UNITS

    found = {word for by in asked for word in by if word in UNITS}
    if len(found) > 1:
        raise UserError(f"--by compares one kind of unit at a time, not {' and '.join(sorted(found))}")
    return next(iter(found), None), [tuple(word for word in by if word not in UNITS) for by in asked]


def _cluster_count(asked: str | None) -> int | None:
    """The number after ``--clusters``; None where there is none."""
    from lnsub.common.errors import UserError

    if not asked:
        return None
    if Path(asked).suffix == ".safetensors":
        raise UserError(f"--clusters takes a number, but {asked} is a file: put --clusters after the tickets")
    if not asked.isascii() or not asked.isdigit() or len(asked) > 9 or int(asked) < 2:
        raise UserError(f"--clusters takes a whole number of at least 2; it is '{asked[:40]}'.")
    return int(asked)


def _two_sets(asked: str) -> tuple[str, str]:
    """The two sets of runs of a ``--contrast``."""
    from lnsub.common.errors import UserError

    names = comma_list("--contrast", asked)
    if len(names) != 2 or names[0] == names[1]:
        raise UserError(f"--contrast takes two sets of runs, such as seed57,seed57-sample1; it is '{asked[:80]}'.")
    return names[0], names[1]


def _check_sets(contrasts: "Sequence[tuple[str, str]]", there: set[str]) -> None:
    from lnsub.common.errors import UserError

    for name in [name for pair in contrasts for name in pair if name not in there][:1]:
        raise UserError(
            f"--contrast names {name[:80]}, of which no ticket here is; they are of {', '.join(sorted(there))[:200]}."
        )


def _check_inherited(options: argparse.Namespace) -> None:
    from lnsub.common.errors import UserError

    if options.inherited and Path(options.inherited).is_file():
        raise UserError(
            f"--inherited takes a base model, but {options.inherited} is a file: put --inherited after the tickets"
        )
    if options.reference and options.inherited is not None:
        raise UserError("--reference and --inherited both say what tickets depart from: use one at a time")
    if options.null and options.inherited is None:
        raise UserError("--null says what departures share by chance given theta_0: add --inherited")
    if options.inherited_output and options.inherited is None:
        raise UserError("--inherited-output saves the masks that --inherited makes: add --inherited")


def _inherit(
    tickets: "Sequence[Ticket]", ready: "Sequence[Ticket]", base_model: str, keep: Path | None
) -> "tuple[Theta0, list[Ticket]]":
    """Reads theta_0 and makes the missing inherited masks."""
    from lnsub.analysis.overlap.comparison import departing
    from lnsub.common.errors import UserError
    from lnsub.models.inherited import Theta0, inherited_masks, save_inherited

    try:
        theta_0 = Theta0.load(base_model or tickets[0].provenance.base_model)
    except UserError as error:
        if base_model:
            raise
        hint = "The tickets name that base model; give its location with --inherited BASE_MODEL."
        raise UserError(f"{error} {hint}") from error
    masks = inherited_masks(theta_0, [tickets[place] for place in departing(tickets)], ready)
    if keep is not None:
        save_inherited([mask for mask in masks if mask not in ready], keep)
    return theta_0, masks


def _screen_width() -> int | None:
    """The terminal's width; None without a terminal, so that files and pipes get all columns."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
