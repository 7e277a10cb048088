"""`lnsub export`."""

import argparse
import sys
from pathlib import Path

from lnsub.cli.options import named


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Writes a Hugging Face model folder with a sub-network's weights, tokenizer and model card, which loads with\n"
        "from_pretrained. The weights are theta_0 under the mask, or those of a checkpoint of a fit under this ticket."
    )
    parser.add_argument("ticket", metavar="TICKET")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write, new or empty")
    parser.add_argument("--base-model", type=named, metavar="M", help="base model (default: the ticket's)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="CKPT",
        help="checkpoints/last.ckpt of a fit under this ticket: export its fine-tuned weights",
    )
    parser.add_argument(
        "--task", type=named, metavar="TASK", help="task of the model's head (default: the ticket's task)"
    )
    parser.add_argument(
        "--shrink",
        action="store_true",
        help="write the smaller dense model that a ticket of neurons or heads stands for, with the same logits",
    )
    parser.add_argument("--push", type=named, metavar="ORG/NAME", help="push the folder to the Hugging Face Hub too")
    parser.add_argument("--private", action="store_true", help="with --push: make the repository a private one")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    if options.push:
        from lnsub.common.hub import check_may_push, check_repository

        check_repository(options.push)
        check_may_push()
    elif options.private:
        from lnsub.common.errors import UserError

        raise UserError("--private says how --push makes a repository: add --push ORG/NAME, or leave it out")
    from lnsub.export.folder import export

    folder = export(
        options.ticket,
        options.output,
        base_model=options.base_model,
        checkpoint=options.checkpoint,
        task=options.task,
        name=options.push,
        smaller=options.shrink,
    )
    what = "rewound" if options.checkpoint is None else "fine-tuned"
    sys.stdout.write(f"{folder}: {what} weights under {options.ticket}; its README.md explains how to load them\n")
    if options.push:
        from lnsub.export.hub import Repository, push_model

        address = push_model(folder, Repository.open(options.push, private=options.private))
        sys.stdout.write(f"{address}: the folder, pushed\n")
    return 0
