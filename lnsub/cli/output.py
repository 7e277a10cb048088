"""Output of a command's tables: to a file or to standard output."""

import sys
from collections.abc import Sequence
from pathlib import Path


def check_table(output: Path | None, columns: Sequence[str]) -> None:
    """Refuses to replace what is not an earlier table of the same command; call it before the work.

    Args:
        output: the file to write; None: standard output.
        columns: names of columns, of which each table of the command has one near its start, in every format.

    Raises:
        UserError: it is a file of another kind, a folder, a device or a FIFO.
    """
    from lnsub.common.files import check_output, starts_with

    if output is not None:
        names = [name.encode() for column in columns for name in (column, column.replace("_", " "))]
        empty = (b"", b"[]")

        def is_own(path: Path) -> bool:
            start = starts_with(path)
            return start.strip() in empty or any(name in start for name in names)

        check_output(output, "a table of this command", is_own)


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
