"""The tasks, one file each: what a task asks of a model, and its data in each language."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from lnsub.tasks.task import LanguageDataModule, Task


@cache
def _files() -> list[ModuleType]:
    return [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]


def data_modules() -> dict[str, type[LanguageDataModule]]:
    """The data module of every task, by its class's name: whatever a file of this folder defines."""
    return {
        name: value
        for module in _files()
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, LanguageDataModule) and value.__module__ == module.__name__
    }


def tasks() -> dict[str, type[Task]]:
    """The tasks by name: those of this folder, and those that are defined elsewhere, once that is imported."""
    _files()
    return {task.name: task for task in _named(Task)}


def _named(task: type[Task]) -> list[type[Task]]:
    """The subclasses that have a name, in the order of their definition."""
    below = [found for sub in task.__subclasses__() for found in _named(sub)]
    return [*([task] if "name" in vars(task) else []), *below]
