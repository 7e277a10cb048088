"""`lnsub ticket info|verify|push|pull|import`."""

import argparse
import sys
from pathlib import Path

from lnsub.cli.options import named


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Describes tickets, checks their integrity, pushes them to the Hugging Face Hub and pulls them from there,\n"
        "and makes tickets of masks that other programs wrote."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="info|verify|push|pull|import")
    info = actions.add_parser(
        "info", help="print provenance and sparsity, and for a single ticket the density by layer"
    )
    info.add_argument("tickets", nargs="+", metavar="TICKET")
    info.set_defaults(call=_info)
    verify = actions.add_parser(
        "verify", help="check each file's format, shapes and checksum; exit status 2 if one is bad"
    )
    verify.add_argument("tickets", nargs="+", metavar="TICKET")
    verify.set_defaults(call=_verify)
    _add_push(actions.add_parser("push", help="add tickets to a model repository on the Hugging Face Hub"))
    _add_pull(actions.add_parser("pull", help="fetch the tickets of a repository on the Hugging Face Hub"))
    _add_import(actions.add_parser("import", help="make a ticket of masks, or of the zeros of a pruned checkpoint"))


def _add_push(push: argparse.ArgumentParser) -> None:
    push.description = (
        "Checks tickets and adds them to a repository in one commit. Its card lists all tickets that are in it."
    )
    push.add_argument(
        "sources", nargs="+", type=named, metavar="TICKET", help="ticket files, or trees of runs with all their tickets"
    )
    push.add_argument("--to", required=True, type=named, metavar="ORG/NAME", help="the repository, made where missing")
    push.add_argument("--private", action="store_true", help="make it a private one")
    push.add_argument("--revision", type=named, metavar="BRANCH", help="a branch (default: the main one)")
    push.add_argument(
        "--license", type=named, metavar="ID", help="the licence on the card, by the Hub's name (default: as it is)"
    )
    push.set_defaults(call=_push)


def _add_pull(pull: argparse.ArgumentParser) -> None:
    pull.description = "Fetches and checks tickets. A file that is there and differs is never replaced."
    pull.add_argument("repository", type=named, metavar="ORG/NAME")
    pull.add_argument(
        "--tickets",
        nargs="+",
        type=named,
        metavar="GLOB",
        help="paths in the repository, such as 'tickets/xnli/*/seed57/s0.50.*' (default: all tickets)",
    )
    pull.add_argument("--revision", type=named, metavar="R", help="a branch, tag or commit (default: the main branch)")
    pull.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write them to")
    pull.set_defaults(call=_pull)


def _add_import(imports: argparse.ArgumentParser) -> None:
    imports.description = (
        "Makes a ticket of a safetensors file with masks (True or 1 keeps a weight), whose names are those of the\n"
        "base model's parameters, with any prefix and with or without _mask; or of a pruned checkpoint, where 0 is\n"
        "pruned. Pickles (.pt, .bin) are not read."
    )
    imports.formatter_class = argparse.RawDescriptionHelpFormatter
    imports.add_argument("source", type=named, metavar="SOURCE", help="a safetensors file, or a folder of such")
    imports.add_argument(
        "--base-model", required=True, type=named, metavar="M", help="the model as it was before any pruning"
    )
    imports.add_argument("--task", required=True, type=named, metavar="TASK", help="what it was found on")
    imports.add_argument("--language", required=True, type=named, metavar="L", help="what it was found on")
    imports.add_argument("--seed", type=int, default=-1, metavar="N", help="seed of the run (default: not known)")
    imports.add_argument(
        "--scope",
        choices=["global", "layer", "matrix", "stack", "row"],
        default="global",
        help="which weights were ranked together; inherited masks follow it (default: %(default)s)",
    )
    imports.add_argument("--metric", default="", metavar="NAME=VALUE", help="what it was measured at")
    imports.add_argument("--output", type=Path, required=True, metavar="F", help="the ticket file to write")
    imports.add_argument("--force", action="store_true", help="replace F where it is a ticket already")
    imports.set_defaults(call=_import)


def _info(options: argparse.Namespace) -> int:
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.info import print_tickets

    print_tickets(expanded(options.tickets))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.info import verify

    lines, good = verify(expanded(options.tickets))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if not good:
        bad = sum(not line.startswith("ok ") for line in lines)
        raise UserError(f"{bad} of {len(lines)} files are not whole tickets: the lines above say which, and why.")
    return 0


def _push(options: argparse.Namespace) -> int:
    from lnsub.export.ticket_repository import push_tickets

    pushed = push_tickets(
        options.sources,
        options.to,
        private=options.private,
        revision=options.revision,
        license=options.license,
    )
    for path in pushed.added:
        sys.stdout.write(f"added {path}\n")
    there = f", {pushed.there:,} were there already" if pushed.there else ""
    sys.stdout.write(f"{pushed.url}: {len(pushed.added):,} added{there}; it has {pushed.total:,} now\n")
    return 0


def _pull(options: argparse.Namespace) -> int:
    from lnsub.export.ticket_repository import PATTERNS, pull_tickets

    files, there = pull_tickets(
        options.repository, options.output, patterns=options.tickets or PATTERNS, revision=options.revision
    )
    for path in files:
        sys.stdout.write(f"{path}\n")
    count = f"{len(files):,} ticket{'' if len(files) == 1 else 's'}"
    here = f", of which {there:,} were there already" if there else ""
    sys.stdout.write(f"{options.output}: {count}, checked{here}\n")
    return 0


def _import(options: argparse.Namespace) -> int:
    from lnsub.common.errors import UserError
    from lnsub.common.files import check_output
    from lnsub.common.names import plain_name
    from lnsub.tickets.file_format import is_ticket

    # Before the model is loaded, which takes longest.
    plain_name("task", options.task)
    plain_name("language", options.language)
    if not -1 <= options.seed < 2**32:
        raise UserError(f"--seed takes a whole number from 0 to {2**32 - 1:,}, or -1 for one that is not known.")
    if options.metric:
        _check_metric(options.metric)
    check_output(options.output, "a ticket", is_ticket)
    if options.output.exists() and not options.force:
        raise UserError(f"{options.output} exists: name another file, or give --force to replace it")

    from lnsub.models.imported import import_masks

    made = import_masks(
        options.source,
        options.base_model,
        task=options.task,
        language=options.language,
        seed=options.seed,
        scope=options.scope,
        metric=options.metric,
    )
    made.ticket.save(options.output)
    t = made.ticket
    sys.stdout.write(
        f"{options.output}: sparsity {t.sparsity:.4f} ({t.kept:,} of {t.total:,} weights kept, in {len(t.masks)} "
        "matrices)\n" + "".join(f"{remark}\n" for remark in made.remarks)
    )
    return 0


def _check_metric(text: str) -> None:
    """Refuses a metric that is not ``name=value``."""
    from lnsub.common.errors import UserError

    name, _, value = text.partition("=")
    try:
        good = bool(name.strip()) and name.isprintable() and len(text) <= 200 and abs(float(value)) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise UserError(f"--metric takes NAME=VALUE, such as accuracy=0.71; it is {text[:40]!r}.")
