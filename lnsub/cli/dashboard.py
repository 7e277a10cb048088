"""`lnsub dashboard`."""

import argparse
import sys

from lnsub.cli.options import comma_list, named


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Saves a W&B workspace for the runs of a project: metric against sparsity, transfer, overlap by layer, and\n"
        "training curves by sparsity, filtered by task and seed. Transfer and overlap use the tables logged by\n"
        "`lnsub report --wandb`. Needs the package wandb-workspaces: pip install 'lnsub[dashboard]'."
    )
    parser.add_argument("--entity", type=named, required=True, metavar="E", help="team or user on W&B")
    parser.add_argument("--project", type=named, required=True, metavar="P", help="project on W&B")
    parser.add_argument("--tasks", default="", metavar="xnli,mlm", help="show only runs of these tasks (default: all)")
    parser.add_argument("--seeds", default="", metavar="57,58", help="show only runs with these seeds (default: all)")
    parser.add_argument("--name", default="lnsub", help="the view's name (default: %(default)s)")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the workspace as JSON; needs no API key and no network"
    )
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.tracking.dashboard import Dashboard

    tasks = comma_list("--tasks", options.tasks)
    seeds = comma_list("--seeds", options.seeds, int)
    dashboard = Dashboard(options.entity, options.project, tasks, seeds, options.name)
    if options.dry_run:
        sys.stdout.write(dashboard.preview() + "\n")
    else:
        sys.stdout.write(f"Dashboard: {dashboard.save()}\n")
    return 0
