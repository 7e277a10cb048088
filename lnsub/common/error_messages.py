"""User-facing errors: whatever a user can put right becomes one line that says what was wrong and what to do."""

import re
from collections.abc import Iterable, Iterator, Sequence

from lnsub.common.errors import RunError, UserError
from lnsub.common.lookup import did_you_mean

_UNKNOWN = re.compile(
    r"[Oo]ption '([\w.]+)' is not accepted|accept option '([\w.]+)'|unrecognized arguments: --([\w.+-]+)"
)
_VALUE = re.compile(r'Parser key "([\w.]+)":\s+(?!\s|Does not validate|Problem with)([^\n]+)')
_UNION = re.compile(
    r'Parser key "([\w.]+)":\s+Does not validate.*?Errors:\n(.*?)\n\s*Given value type:.*?Given value: ([^\n]+)', re.S
)
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+([^\n]+)")


def one_line(error: Exception, args: Sequence[str] = (), known_settings: Iterable[str] = ()) -> str | None:
    """Says an error in one line.

    Args:
        error: what was raised.
        args: the command line, to name the command in a hint.
        known_settings: names of settings, of which the closest one is suggested for one that does not exist; read only
            for that.

    Returns:
        The line, or None where the error is not the user's: a bug, whose traceback is needed.
    """
    for cause in _chain(error):  # jsonargparse wraps what a class's __init__ refuses
        if isinstance(cause, UserError | RunError):
            return " ".join(str(cause).split())
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"ArgumentError", "ArgumentTypeError", "NSKeyError", "ParserError"}:
        text = _parsing(str(error), args, known_settings)
    elif "MisconfigurationException" in names:
        text = str(error)
    elif isinstance(error, UnicodeDecodeError):
        files = [value for at, value in _options(args) if at == "--config"]
        text = f"{' or '.join(files) or 'A file'} is not UTF-8 text: {error.reason} at byte {error.start:,}."
    elif isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    else:
        return None
    return " ".join(text.split())


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The command line's options and their values, ``--a b`` and ``--a=b`` alike."""
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        yield name, value if equals else following


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _parsing(text: str, args: Sequence[str], known_settings: Iterable[str]) -> str:
    """What jsonargparse says, down to the innermost reason, with the right key beside a mistyped one."""
    unknown, value = _UNKNOWN.search(text), _VALUE.search(text)
    if unknown and not (value and value.start() < unknown.start()):
        key = next(group for group in unknown.groups() if group)
        close = did_you_mean(key.split(".")[-1], known_settings)
        return f"there is no setting {key}{close}; `lnsub {args[0] if args else 'fit'} --help` lists them."
    if value:
        return f"{value.group(1)}: {_plain(value.group(2))}"
    if union := _UNION.search(text):
        if problem := _CLASS.search(union.group(2)):
            return f"{union.group(1)}: {problem.group(1)} cannot be used: {problem.group(2)}."
        reasons = [_plain(line.strip(" -")) for line in union.group(2).splitlines() if "NoneType" not in line]
        return f"{union.group(1)}: {union.group(3)} cannot be used: {'; '.join(reasons)}."
    return " ".join(line for line in text.splitlines() if not line.strip().startswith("tip:"))


def _plain(reason: str) -> str:
    """Python's names of types in a user's words."""
    reason = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", reason)
    return re.sub(r"an? <class '(?:\w+\.)*(\w+)'>", r"\1", reason).replace("a one of", "one of")
