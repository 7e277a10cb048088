"""User-facing error messages: one line for every error that the user can fix."""

from collections.abc import Iterator, Sequence

from lnsub.common.errors import RunError, UserError


def user_message(error: Exception, args: Sequence[str] = ()) -> str | None:
    """Formats an error as one line.

    Args:
        error: the exception.
        args: the command line, to name the file that could not be decoded.

    Returns:
        The line, or None if the error is a bug, whose traceback is needed.
    """
    if told := told_in(error):
        return " ".join(str(told).split())
    if "MisconfigurationException" in {cls.__name__ for cls in type(error).__mro__}:
        text = str(error)
    elif isinstance(error, UnicodeDecodeError):
        files = [value for name, value in _options(args) if name == "--config"]
        text = f"{' or '.join(files) or 'A file'} is not UTF-8 text: {error.reason} at byte {error.start:,}."
    elif isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    else:
        return None
    return " ".join(text.split())


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The command line's options and their values, from ``--a b`` and ``--a=b``."""
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        yield name, value if equals else following


def told_in(error: BaseException | None) -> UserError | RunError | None:
    """The error for people that an error is, or that it comes from: a library may wrap what a class refuses."""
    while error is not None and not isinstance(error, UserError | RunError):
        error = error.__cause__ or error.__context__
    return error
