"""`python -m lnsub` is the `lnsub` command."""

import sys

from lnsub.cli.main import program

sys.exit(program())
