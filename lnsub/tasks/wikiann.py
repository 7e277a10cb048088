"""Named entities on WikiANN (Pan et al., 2017; splits of Rahimi et al., 2019, https://arxiv.org/abs/1902.00193)."""

from torch import Tensor
from torchmetrics import MetricCollection

from lnsub.tasks.counts import entities
from lnsub.tasks.metrics import EntityScore
from lnsub.tasks.words import TaggedWords, WordTask

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""The tags in the order of their numbers: after O, each type has an odd number for B- and the next for I-."""


class WikiANNTask(WordTask):
    """Which words name a person, an organisation or a place?"""

    name = "wikiann"
    title = "NER"
    metric = "f1"
    metric_title = "F1"
    chance = 0.05
    """Tags drawn by their frequency reach 0.00 to 0.02 in five languages of WikiANN."""
    dataset = "unimelb-nlp/wikiann"
    labels = TAGS
    counted = ("hits", "predicted", "gold")
    added = frozenset({"f1_default"})

    def metrics(self) -> MetricCollection:
        """Returns the entity-level F1, precision and recall (micro) in seqeval's strict IOB2, and its default F1.

        The default F1, which most papers report, takes an I- tag that continues nothing for a beginning; it is several
        points higher.
        """
        strict = {score: EntityScore(score) for score in ("f1", "precision", "recall")}
        scores = {**strict, "f1_default": EntityScore("f1", lenient=True)}
        return MetricCollection(scores, compute_groups=[list(strict), ["f1_default"]])

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Counts each sentence's entities: found, predicted and true (strict)."""
        return entities(logits, batch["labels"])


class WikiANN(TaggedWords):
    """WikiANN, or any data set of words (``tokens``) with the seven tags of :data:`TAGS` (``ner_tags``)."""

    task_class = WikiANNTask
    columns = ("tokens", "ner_tags")
