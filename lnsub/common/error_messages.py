"""User-facing error messages: one line for every error that the user can fix."""

from lnsub.common.errors import RunError, UserError
from lnsub.common.printable import printable


def user_message(error: Exception) -> str | None:
    """Formats an error as one line.

    Args:
        error: the exception.

    Returns:
        The line, or None if the error is a bug, whose traceback is needed.
    """
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if told := told_in(error):
        text = str(told)
    elif "MisconfigurationException" in kinds:
        text = str(error)
    elif kinds & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(error):
        # torch reports a full main memory as a RuntimeError, a full GPU as an OutOfMemoryError.
        detail = str(error).split("\n")[0]
        text = (
            f"There is not enough memory{f' ({detail})' if detail else ''}: use smaller batches, or a larger machine."
        )
    elif isinstance(error, UnicodeDecodeError):
        text = f"A file is not UTF-8 text: {error.reason} at byte {error.start:,}."
    elif isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    else:
        return None
    return printable(" ".join(text.split()))  # it may quote a file


def told_in(error: BaseException | None) -> UserError | RunError | None:
    """The error for people that an error is, or that it comes from: a library may wrap what a class refuses."""
    while error is not None and not isinstance(error, UserError | RunError):
        error = error.__cause__ or error.__context__
    return error
