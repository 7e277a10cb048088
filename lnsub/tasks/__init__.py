"""The tasks: what each asks of a model, and its data in each language."""

from lnsub.tasks.base import LanguageDataModule
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import Task
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI

__all__ = ["XNLI", "LanguageDataModule", "Task", "WikiANN", "WikipediaMLM"]
