"""The report: a tree of runs as one page of figures, with the data as CSV beside it.

:mod:`lnsub.report.published` has the paper's own numbers, without torch; so the rest is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lnsub.report.build import Made, published_report, report
    from lnsub.report.figure import Options

__all__ = ["Made", "Options", "published_report", "report"]

_PLACES = {"Made": "build", "Options": "figure", "published_report": "build", "report": "build"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"lnsub.report.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'lnsub.report' has no attribute {name!r}")
