"""Turns jsonargparse's errors into one line: which setting, what is wrong with it, and the closest valid name."""

import re
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature

from jsonargparse import ArgumentParser

from lnsub.common.bounds import DESCRIPTIONS, shown
from lnsub.common.error_messages import told_in
from lnsub.common.errors import UserError
from lnsub.common.lookup import did_you_mean

_LACKING = re.compile(r"the following arguments are required: ([\w., ]+)")
_OWN = {"NSKeyError", "ParserError"}  # jsonargparse does not export them

_UNKNOWN = re.compile(
    r"[Oo]ption '([\w.]+)' is not accepted|accept option '([\w.]+)'|unrecognized arguments: --([\w.+-]+)"
)
_VALUE = re.compile(r'Parser key "([\w.]+)":\s+(?!\s|Does not validate|Problem with)([^\n]+)')
_UNION = re.compile(
    r'Parser key "([\w.]+)":\s+Does not validate.*?Errors:\n(.*?)\n\s*Given value type:.*?Given value: ([^\n]+)', re.S
)
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+([^\n]+)")


def run_settings() -> list[str]:
    """The last components of all names of a run's settings."""
    from lightning.pytorch import Trainer

    from lnsub.tasks import data_modules
    from lnsub.training.config import RunConfig
    from lnsub.training.imp import IMPCallback
    from lnsub.training.module import SubnetModule

    owners = [Trainer, SubnetModule, IMPCallback, RunConfig, *data_modules().values()]
    names = {name for owner in owners for name in signature(owner).parameters}
    return sorted((names | {"config", "class_path", "init_args"}) - {"args", "kwargs"})


@contextmanager
def user_errors(
    parser: ArgumentParser, settings: Callable[[], list[str]] = run_settings, *, listed: str | None = None
) -> Iterator[None]:
    """Converts a parser's errors into a one-line :class:`UserError`.

    Args:
        parser: the parser; a hint names its ``prog``.
        settings: the last components of the names of its settings, among which a mistyped one may be found.
        listed: the page that lists the settings; None: the help of ``prog``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if told := told_in(error):  # what a class's __init__ refuses comes wrapped
            raise told from error
        text = str(error)
        if isinstance(error, ArgumentError) or type(error).__name__ in _OWN:
            raise UserError(" ".join(_line(text, parser.prog, settings(), listed).split())) from error
        # A value, or the module of a class_path, at which Python itself fails: a number too large for a float, say.
        raise UserError(f"The settings cannot be used: {type(error).__name__}: {' '.join(text.split())}") from error


def _line(text: str, prog: str, settings: list[str], listed: str | None) -> str:
    """The innermost reason, with a suggestion for a mistyped key."""
    unknown, value, union = _UNKNOWN.search(text), _VALUE.search(text), _UNION.search(text, text.rfind('Parser key "'))
    # Of several classes that a value may be meant for, the first comes first; the innermost setting is the reason.
    earlier = unknown and ((value and value.start() < unknown.start()) or (union and union.end() < unknown.start()))
    if unknown and not earlier:
        key = next(group for group in unknown.groups() if group)
        name = key.split(".")[-1]
        if name in settings and listed is None:
            return f"there is no setting {key} here: the class that has it must be named first."
        hint = " in this place" if name in settings else did_you_mean(name, settings)
        return f"there is no setting {key}{hint}; {listed or f'`{prog} --help`'} lists them."
    if value:
        return f"{value.group(1)}: {_plain(value.group(2))}"
    if union:
        if problem := _CLASS.search(union.group(2)):
            if lacking := _LACKING.match(problem.group(2)):
                return f"{union.group(1)} lacks {lacking.group(1)}."
            return f"{union.group(1)}: {problem.group(1)} cannot be used: {problem.group(2)}."
        reasons = [_plain(line.strip(" -")) for line in union.group(2).splitlines() if "<class 'NoneType'>" not in line]
        if nested := re.match(r"NestedArg\(key='([\w.]+)'", union.group(3)):
            of = union.group(1)
            return f"{of}.{nested.group(1)} cannot be used: name the class that has it first, with --{of}=<class>."
        return f"{union.group(1)}: {union.group(3)} cannot be used: {'; '.join(reasons)}."
    if lacking := re.search(
        rf'Parser key "([\w.]+)":\s+Problem with given class_path[^:]*:\s+{_LACKING.pattern}', text
    ):
        return f"an entry of {lacking.group(1)} lacks {lacking.group(2)}."
    return " ".join(line for line in text.splitlines() if not line.strip().startswith("tip:"))


def _plain(reason: str) -> str:
    """Says what a value must be in place of the names of Python's types."""
    if bounded := re.match(r"Not of type (\w+): (.*)", reason):
        kind, rest = bounded.groups()
        value = re.match(r"(?!does)(\S+) does not conform", rest) or re.search(r"(?:Got value: |: ')([^']+)", rest)
        return f"it must be {DESCRIPTIONS.get(kind, kind)}{f', not {shown(value.group(1))}' if value else ''}"
    if word := re.match(r"Expected a <class 'str'>\. Got value: (True|False)", reason):
        yaml = {"True": "yes, on and true as true", "False": "no, off and false as false"}[word.group(1)]
        return f"it must be text, and YAML reads {yaml}: quote it"
    if path := re.search(r"Expected a path but (\S+) either not accessible", reason):
        return f"there is neither a class nor a file {path.group(1)}"
    if re.match(r"Expected a (<class 'list'>|List)", reason):
        return "it must be a list, such as [0.3, 0.6]"
    reason = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", reason)
    return re.sub(r"an? <class '(?:\w+\.)*(\w+)'>", r"\1", reason).replace("a one of", "one of")
