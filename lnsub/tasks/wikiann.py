"""Named entities on WikiANN (Pan et al., 2017; splits of Rahimi et al., 2019, https://arxiv.org/abs/1902.00193)."""

from torchmetrics import MetricCollection

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
    dataset = "unimelb-nlp/wikiann"
    labels = TAGS

    def metrics(self) -> MetricCollection:
        """Returns the entity-level F1, precision and recall (micro), as seqeval computes them in strict IOB2."""
        scores = {score: EntityScore(score) for score in ("f1", "precision", "recall")}
        return MetricCollection(scores, compute_groups=[list(scores)])


class WikiANN(TaggedWords):
    """WikiANN, or any data set of words (``tokens``) with the seven tags of :data:`TAGS` (``ner_tags``)."""

    task_class = WikiANNTask
    columns = ("tokens", "ner_tags")
