"""The tasks, one file each: what a task asks of a model, and its data in each language."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from lnsub.data.module import LanguageDataModule


@cache
def data_modules() -> dict[str, type[LanguageDataModule]]:
    """The data module of every task, by its class's name: whatever a file of this folder defines."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, LanguageDataModule) and value.__module__ == module.__name__
    }
