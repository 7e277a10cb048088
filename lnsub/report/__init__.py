"""The report: a tree of runs as one page of figures, with the data as CSV beside it."""

from lnsub.report.build import Made, report
from lnsub.report.figure import Options

__all__ = ["Made", "Options", "report"]
