"""The tasks, one file each: what a task asks of a model, and its data in each language."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from lnsub.tasks.task import LanguageDataModule, Task


@cache
def _files() -> list[ModuleType]:
    return [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]


def data_modules() -> dict[str, type[LanguageDataModule]]:
    """The data module of every task of this folder, by its class's name."""
    return {
        name: value
        for module in _files()
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, LanguageDataModule) and hasattr(value, "task_class")
    }


def tasks() -> dict[str, type[Task]]:
    """The tasks by name: those of this folder, and those that are defined elsewhere, once that is imported."""
    _files()
    return {task.name: task for task in _subclasses(Task) if "name" in vars(task)}


def _subclasses(base: type[Any]) -> list[type[Any]]:
    """The classes below a class, in the order of their definition."""
    return [found for sub in base.__subclasses__() for found in (sub, *_subclasses(sub))]
