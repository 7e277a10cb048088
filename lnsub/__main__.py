"""`python -m lnsub` is the `lnsub` command."""

import sys

from lnsub.cli import program

sys.exit(program())
