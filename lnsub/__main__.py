"""`python -m lnsub` is the `lnsub` command."""

import sys

# `-m` puts the working directory in front of all packages; a file there is data, not to be imported as one of them.
if not sys.flags.safe_path:
    del sys.path[0]

from lnsub.cli.main import program

sys.exit(program())
