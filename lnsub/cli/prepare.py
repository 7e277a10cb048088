"""`lnsub prepare`."""

import argparse
import sys
from pathlib import Path

from lnsub.cli.options import comma_list


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.usage = "lnsub prepare --config C --languages a,b,c --output DIR [--fetch-only] [-- SETTING...]"
    parser.description = (
        "Fetches the base model and the data of a configuration of `lnsub fit`, and tokenises the data, so that runs\n"
        "that start together, or without network, find all they need. Leaves a receipt for each language. A language\n"
        "that fails does not stop the others. Exit status 1: one failed."
    )
    parser.add_argument(
        "--config", action="append", required=True, metavar="C", help="configuration; later ones override earlier ones"
    )
    parser.add_argument("--languages", required=True, metavar="a,b,c", help="languages and mixtures")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the receipts")
    parser.add_argument(
        "--fetch-only", action="store_true", help="only what needs the network: the base model and the raw data"
    )
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="after --: settings of `lnsub fit`")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.common.error_messages import user_message
    from lnsub.common.errors import UserError
    from lnsub.common.progress_file import note_progress

    languages = comma_list("--languages", options.languages)
    if not languages:
        raise UserError("Name at least one language: --languages fr,ur.")

    # The following imports torch, which takes seconds.
    from lnsub.training.config import RunConfig
    from lnsub.training.logging_setup import set_up_logging
    from lnsub.training.preparing import prepare

    set_up_logging()
    given = [*options.settings, f"--data.init_args.language={languages[0]}"]
    config = RunConfig.parse([*(f"--config={name}" for name in options.config), *given])
    failed = 0
    for number, language in enumerate(languages):
        note_progress(language, number / len(languages), None)
        try:
            prepare(config, language, options.output, fetch_only=options.fetch_only)
        except Exception as error:
            message = user_message(error)
            if message is None or len(languages) == 1:
                raise
            failed += 1
            sys.stderr.write(f"lnsub: {language}: {message}\n")
    if failed:
        sys.stderr.write(f"lnsub: {failed} of {len(languages)} languages failed.\n")
    return 1 if failed else 0
