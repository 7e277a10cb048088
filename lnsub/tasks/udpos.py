"""Parts of speech on Universal Dependencies (Nivre et al., 2020, https://arxiv.org/abs/2004.10643)."""

from types import MappingProxyType
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from lnsub.common.errors import UserError
from lnsub.common.names import looks_local
from lnsub.data.rows import RowSource, open_rows
from lnsub.tasks.counts import words_right
from lnsub.tasks.metrics import TokenAccuracy
from lnsub.tasks.words import TaggedWords, WordTask

TREEBANKS = {
    "ar": "padt",
    "de": "gsd",
    "en": "ewt",
    "es": "gsd",
    "fa": "seraji",
    "fr": "gsd",
    "hi": "hdtb",
    "ru": "gsd",
    "ur": "udtb",
    "zh": "gsdsimp",
}
"""The treebank of each language unless another is named; Universal Dependencies has none of Swahili."""


class UDPOSTask(WordTask):
    """Which part of speech is each word?"""

    name = "udpos"
    title = "POS"
    metric = "accuracy"
    metric_title = "accuracy"
    chance = 0.3
    """Nouns are the commonest of all words in every treebank, and up to three in ten."""
    dataset = "universal-dependencies/universal_dependencies"
    labels = (
        *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART"),
        *("PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
    )
    counted = ("correct", "words")
    denominators = MappingProxyType({"accuracy": "words"})

    def metrics(self) -> MetricCollection:
        """Returns the accuracy over words."""
        return MetricCollection({"accuracy": TokenAccuracy()})

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Counts each sentence's words: right, and all."""
        return words_right(logits, batch["labels"])


class UDPOS(TaggedWords):
    """Universal Dependencies, or any data set of words (``tokens``) with universal parts of speech (``upos``).

    A word whose part of speech is ``_`` or null is read but not predicted.

    Args:
        treebank: what comes after the language in the name of the Hub's configuration: ``gsd`` of ``fr_gsd``. None
            takes the usual one of the language; ignored for a data folder.
    """

    task_class = UDPOSTask
    columns = ("tokens", "upos")
    untagged = ("_", None)

    def __init__(self, *args: Any, treebank: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.treebank = treebank

    def open(self) -> RowSource:
        """Opens the sentences; on the Hub, a configuration is named by language and treebank."""
        treebank = self.treebank or TREEBANKS.get(self.language)
        if treebank is None and not looks_local(self.dataset):
            raise UserError(
                f"No treebank of Universal Dependencies is known for '{self.language}': name one as treebank, or a data"
                " folder as dataset."
            )
        return open_rows(self.dataset, self.language, self.columns, suffix=f"_{treebank}" if treebank else "")
