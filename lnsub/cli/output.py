"""Where a command's tables go: a file, or standard output."""

import sys
from pathlib import Path


def emit(text: str, output: Path | None) -> None:
    """Writes text to a file, whole or not at all, or to standard output where no file is named.

    Raises:
        UserError: the file cannot be written.
    """
    from lnsub.common.files import replacing

    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as file:
            file.write(text.encode())
