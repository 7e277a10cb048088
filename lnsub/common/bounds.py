"""Numbers with bounds: the types of settings, checked alike on the command line, in files and in Python.

Text must not be empty either. Each type is a type for ``jsonargparse``, which checks what it parses::

    def __init__(self, batch_size: Count = 32, warmup: Share = 0.0, limit: Count | None = None) -> None:
        check_numbers(hints_of(type(self)), locals())

The upper bounds are far beyond what anybody needs. They are there because a slip of the keyboard should not start a
million processes or ask for forty gigabytes.
"""

import math
import types
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse.typing import OpenUnitInterval, restricted_number_type

from lnsub.common.errors import UserError

DESCRIPTIONS = {"OpenUnitInterval": "a number above 0 and below 1"}
"""What each type takes, by its name; it completes "it must be"."""


def _kind(name: str, base: type, restrictions: list[tuple[str, float]], description: str) -> Any:
    DESCRIPTIONS[name] = description
    return restricted_number_type(name, base, restrictions, docstring=description)


Count = _kind("Count", int, [(">=", 1), ("<", 2**31)], "a whole number from 1 to 2,147,483,647")
CountOrZero = _kind("CountOrZero", int, [(">=", 0), ("<", 2**31)], "a whole number from 0 to 2,147,483,647")
Seed = _kind("Seed", int, [(">=", 0), ("<", 2**32)], "a whole number from 0 to 4,294,967,295")
Nodes = _kind("Nodes", int, [(">=", 1), ("<=", 65_536)], "a whole number from 1 to 65,536")
Workers = _kind("Workers", int, [(">=", 0), ("<=", 256)], "a whole number from 0 to 256")
Multiple = _kind("Multiple", int, [(">=", 1), ("<=", 4096)], "a whole number from 1 to 4,096")
Length = _kind("Length", int, [(">=", 8), ("<=", 2**20)], "a whole number from 8 to 1,048,576")
OrAll = _kind("OrAll", int, [(">=", -1), ("<", 2**31)], "a whole number of at least 0, or -1 for all")
Limit = _kind("Limit", int, [(">=", -1), ("!=", 0), ("<", 2**31)], "a whole number from 1, or -1 for no limit")
Fraction = OpenUnitInterval
Share = _kind("Share", float, [(">=", 0), ("<", 1)], "a number of at least 0 and below 1")
Part = _kind("Part", float, [(">", 0), ("<=", 1)], "a number above 0 and at most 1")
UpTo10 = _kind("UpTo10", float, [(">=", 0), ("<=", 10)], "a number from 0 to 10")
NonNegative = _kind("NonNegative", float, [(">=", 0), ("<", math.inf)], "a finite number of at least 0")
Minutes = _kind("Minutes", float, [(">", 0), ("<=", 100_000)], "a number above 0 and at most 100,000")


def check_numbers(hints: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> None:
    """Checks numbers against their bounds, and that only what may be None is.

    Args:
        hints: types by name, such as :func:`hints_of` a class.
        values: values by name; those without a type are not looked at.
        prefix: what a message puts before a name, such as ``trainer.``.

    Raises:
        UserError: one of them is out of its bounds.
    """
    for name, value in values.items():
        if name in hints and (expected := out_of_bounds(value, hints[name])):
            raise UserError(f"{prefix}{name} is {shown(value)}: it must {expected}.")


@cache
def hints_of(owner: type) -> dict[str, Any]:
    """The types of the arguments that a class and its bases are made with, by name."""
    hints: dict[str, Any] = {}
    for cls in reversed(owner.__mro__):
        if "__init__" in vars(cls):
            # Another package's types may have names that only a type checker finds.
            with suppress(NameError):
                hints |= get_type_hints(vars(cls)["__init__"])
    return {name: hint for name, hint in hints.items() if name != "return"}


def out_of_bounds(value: Any, hint: Any) -> str | None:
    """What a setting must be by its type; None where its value is that, or where the type has no bounds."""
    if value is None:
        return (
            None if hint is Any or type(None) in _alternatives(hint) else "have a value; left out, it has its default"
        )
    if value == "" and str in _alternatives(hint):
        return "name something; left out, it has its default"
    expected = [_expected(value, kind) for kind in _alternatives(hint) if kind is not type(None)]
    return f"be {' or '.join(map(str, expected))}" if all(expected) else None


def shown(value: Any) -> str:
    """A value as YAML has it, for a message, and not all of it where it is long."""
    if value is None or value == "":
        return "null" if value is None else "empty"
    try:
        text = str(value)
    except ValueError:  # Python prints no more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 50 else f"{text[:40]}..."


def _expected(value: Any, kind: Any) -> str | None:
    if get_origin(kind) is list and get_args(kind):
        if not isinstance(value, list | tuple):
            return f"a list, each of its values {inner}" if (inner := _description(get_args(kind)[0])) else None
        return next((wrong for item in value if (wrong := _expected(item, get_args(kind)[0]))), None)
    description = _description(kind)
    if description is None:
        return None
    if isinstance(value, str):
        return description
    try:
        kind(value)
    except (ValueError, TypeError, OverflowError):
        return description
    return None


def _description(kind: Any) -> str | None:
    return DESCRIPTIONS.get(getattr(kind, "__name__", ""))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
