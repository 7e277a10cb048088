"""`lnsub demo`."""

import argparse
from pathlib import Path

from lnsub.cli.options import comma_list


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Runs a small study, lnsub/demo/study.yaml: finds tickets for several languages on the embedded model and\n"
        "data, compares them, transfers them, and makes the report. Takes a few minutes on two CPU cores and needs no\n"
        "network."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("lnsub-demo"), help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--languages", default="en,fr,ru", help="languages of the embedded data (default: %(default)s)")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.demo.run import demo

    demo(options.output, comma_list("--languages", options.languages))
    return 0
