"""Errors for people: whatever a person can put right becomes one line that says what was wrong and what to do."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from lnsub.errors import UserError


def one_line(error: Exception, args: Sequence[str] = ()) -> str | None:
    """Says an error in one line.

    Args:
        error: what was raised.
        args: the command line, to name the command in a hint.

    Returns:
        The line, or None where the error is not the user's: a bug, whose traceback is needed.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, UserError):
        text = str(error)
    elif names & {"ArgumentError", "ArgumentTypeError", "NSKeyError", "ParserError"}:
        text = _parsing(str(error), args)
    elif "MisconfigurationException" in names:
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    else:
        return None
    return " ".join(text.split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint such as `` (did you mean learning_rate?)``, or nothing where nothing is close."""
    close = get_close_matches(word, list(known), 1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _parsing(text: str, args: Sequence[str]) -> str:
    """What jsonargparse says, down to the innermost reason, with the right key beside a mistyped one."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    found = re.search(r"(?:Key|Group|Option) '([^']+)' (?:is not expected|not accepted)", text)
    found = found or re.search(r"Unrecognized arguments: --([\w.+-]+)", text, re.IGNORECASE)
    if found:
        key = found.group(1)
        close = did_you_mean(key.split(".")[-1].split("=")[0], _keys(text, args))
        return f"there is no setting {key}{close}; `lnsub {args[0] if args else 'fit'} --help` lists them."
    return " ".join(line for line in lines if not line.startswith("tip:"))


def _keys(text: str, args: Sequence[str]) -> list[str]:
    """The last parts of all settings that a training command knows."""
    from inspect import signature

    from lightning.pytorch import Trainer

    from lnsub import tasks
    from lnsub.imp import IMPCallback
    from lnsub.module import SubnetModule

    owners = [Trainer, SubnetModule, IMPCallback, tasks.XNLI, tasks.WikiANN, tasks.WikipediaMLM]
    keys = {name for owner in owners for name in signature(owner.__init__).parameters if name != "self"}
    return sorted(keys | {"seed_everything", "trainer", "model", "data", "output", "wandb", "class_path", "init_args"})
