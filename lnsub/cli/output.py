"""Output of a command's tables: to a file or to standard output."""

import sys
from pathlib import Path


def emit(text: str, output: Path | None) -> None:
    """Writes text atomically to a file, or to standard output if there is none.

    Raises:
        UserError: the file cannot be written.
    """
    from lnsub.common.files import replacing

    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as file:
            file.write(text.encode())
