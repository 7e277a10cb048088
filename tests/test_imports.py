"""Every module and every public name imports, and what must be light brings in nothing heavy."""

import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages

import pytest

import lnsub
from lnsub.tasks import data_modules

LIGHTNING = ("lightning", "pytorch_lightning", "transformers", "datasets", "torchmetrics", "wandb")


MODULES = [module.name for module in walk_packages(lnsub.__path__, "lnsub.") if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    assert import_module(name).__name__ == name


@pytest.mark.parametrize("name", [*lnsub.__all__, *data_modules()])
def test_every_public_name_is_there(name):
    assert getattr(lnsub, name) is not None


def test_the_public_names_are_listed():
    assert set(lnsub.__all__) <= set(dir(lnsub))
    assert {"IMPCallback", "SubnetModule", "Ticket", "fit", "overlap"} <= set(lnsub.__all__)


@pytest.mark.parametrize("name", ["Imp", "xnli", "_PLACE"])
def test_another_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(lnsub, name)


def test_the_data_modules_are_the_tasks_own():
    assert {"XNLI", "WikiANN", "WikipediaMLM"} <= data_modules().keys()
    assert all(getattr(lnsub, name) is module for name, module in data_modules().items())


def brought_in(modules: str, packages: tuple[str, ...]) -> set[str]:
    """Which of ``packages`` are imported once ``modules`` are."""
    code = f"import sys, {modules}; print(*({set(packages)!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_a_forbidden_import_would_be_seen():
    assert brought_in("json", ("json", "lightning")) == {"json"}


def test_the_pruning_mathematics_needs_neither_lightning_nor_transformers():
    # All in one, as each interpreter that imports torch takes seconds.
    assert (
        brought_in(
            "lnsub.pruning.masks, lnsub.pruning.scores, lnsub.pruning.selection, lnsub.pruning.schedules", LIGHTNING
        )
        == set()
    )


@pytest.mark.parametrize(
    "module",
    [
        "lnsub",
        "lnsub.tickets.ticket",
        "lnsub.export.ticket_repository",
        "lnsub.analysis.overlap.text",
        "lnsub.cli.main",
        "lnsub.tracking.dashboard",
        "lnsub.cli.retrieve",
        "lnsub.cli.similarity",
    ],
)
def test_what_must_answer_at_once_needs_no_torch(module):
    assert brought_in(module, ("torch", *LIGHTNING)) == set()
