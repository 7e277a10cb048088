"""lnsub: find, transfer and compare the language-neutral sub-networks of multilingual language models.

The names of :data:`__all__`, and every task's data module (``XNLI``, ``WikiANN``, ...), are here, each imported when it
is first asked for, so that ``import lnsub`` costs nothing.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from lnsub.common.errors import RunError, UserError
from lnsub.version import __version__

_PLACES = {
    "IMPCallback": "training.imp",
    "LanguageDataModule": "tasks.task",
    "Mask": "pruning.masks",
    "Record": "runs.records",
    "RunConfig": "training.config",
    "SubnetModule": "training.module",
    "Task": "tasks.task",
    "Ticket": "tickets.ticket",
    "combine": "tickets.combining",
    "fit": "training.fit",
    "overlap": "analysis.overlap.jaccard",
    "read_runs": "runs.tree",
    "set_up": "tracking.run",
}
"""Where each public name is defined."""

__all__ = ["RunError", "UserError", "__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"lnsub.{_PLACES[name]}"), name)
    if not name.startswith("_") and name[:1].isupper() and _may_be_a_task(name):
        from lnsub.tasks import data_modules

        if name in data_modules():
            return data_modules()[name]
    raise AttributeError(f"module 'lnsub' has no attribute {name!r}")


def _may_be_a_task(name: str) -> bool:
    """Whether a task's file defines a class of this name: asked first, as importing the tasks takes seconds."""
    defines = f"class {name}(".encode()
    return any(defines in path.read_bytes() for path in (Path(__file__).parent / "tasks").glob("*.py"))


def __dir__() -> list[str]:
    return sorted(__all__)
