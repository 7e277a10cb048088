"""Metrics against seqeval, scikit-learn and formulas; exact when dealt over processes."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import seqeval.metrics
import torch
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from torchmetrics import Metric

from lnsub.data.batching import IGNORED
from lnsub.tasks.metrics import Accuracy, CrossEntropy, EntityScore, Perplexity, TokenAccuracy
from lnsub.tasks.wikiann import TAGS

SCORES = {
    "f1": seqeval.metrics.f1_score,
    "precision": seqeval.metrics.precision_score,
    "recall": seqeval.metrics.recall_score,
}


def seqeval_score(score: str, gold: list[list[str]], predicted: list[list[str]]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where a score has nothing to divide by
        return SCORES[score](gold, predicted, mode="strict", scheme=IOB2)


def default_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return seqeval.metrics.f1_score(gold, predicted)


def logits_for(predicted: torch.Tensor, classes: int, rng: np.random.Generator) -> torch.Tensor:
    """Random logits whose largest is that of ``predicted``."""
    noise = torch.from_numpy(rng.random((*predicted.shape, classes)))
    return noise + 2 * F.one_hot(predicted, classes)


def random_tags(rng: np.random.Generator, rows: int, width: int, inside: float) -> np.ndarray:
    """Tags with runs of one type, and many I- tags that continue nothing."""
    tags = rng.integers(0, 7, (rows, width))
    for column in range(1, width):
        follow = (rng.random(rows) < inside) & (tags[:, column - 1] > 0)
        tags[follow, column] = (tags[follow, column - 1] + 1) // 2 * 2
    return tags


def tagging(seed: int) -> tuple[torch.Tensor, torch.Tensor, list[list[str]], list[list[str]]]:
    """Logits and labels of a batch with later pieces and padding, and the same as lists of tag names."""
    rng = np.random.default_rng(seed)
    rows, width = int(rng.integers(1, 6)), int(rng.integers(1, 12))
    gold = random_tags(rng, rows, width, rng.random())
    wrong = rng.random((rows, width)) < rng.choice([0.0, 0.1, 0.5])
    predicted = np.where(wrong, random_tags(rng, rows, width, rng.random()), gold)
    labels = np.where(rng.random((rows, width)) < 0.2, IGNORED, gold)
    named = [
        [
            [TAGS[tag] for tag, label in zip(*row, strict=True) if label != IGNORED]
            for row in zip(tags, labels, strict=True)
        ]
        for tags in (gold, predicted)
    ]
    return logits_for(torch.from_numpy(predicted), 7, rng), torch.from_numpy(labels), named[0], named[1]


def test_entity_scores_equal_seqeval_to_the_last_digit():
    for score in SCORES:
        values = set()
        for seed in range(120):
            logits, labels, gold, predicted = tagging(seed)
            metric = EntityScore(score)
            metric.update(logits, labels)
            value = metric.compute()
            assert value.dtype == torch.float64
            assert value.item() == seqeval_score(score, gold, predicted)
            values.add(value.item())
        assert {0.0, 1.0} < values
        assert len(values) > 10


def test_entity_scores_over_many_batches_equal_seqeval_over_all_sentences():
    metrics, gold, predicted = {score: EntityScore(score) for score in SCORES}, [], []
    for seed in range(500):
        logits, labels, *named = tagging(seed)
        for metric in metrics.values():
            metric.update(logits, labels)
        gold += named[0]
        predicted += named[1]
    assert metrics["f1"].gold > 1000
    for score, metric in metrics.items():
        assert metric.compute().item() == seqeval_score(score, gold, predicted)


def test_the_lenient_f1_equals_that_of_seqevals_default_mode():
    strict, lenient, gold, predicted = EntityScore("f1"), EntityScore("f1", lenient=True), [], []
    for seed in range(300):
        logits, labels, *named = tagging(seed)
        one = EntityScore("f1", lenient=True)
        for metric in (strict, lenient, one):
            metric.update(logits, labels)
        assert one.compute().item() == default_f1(*named)
        gold += named[0]
        predicted += named[1]
    assert lenient.compute().item() == default_f1(gold, predicted)
    assert lenient.gold > strict.gold > 500


def test_an_inside_tag_that_continues_nothing_is_no_entity():
    gold = torch.tensor([[0, 1, 2, 0], [3, 4, 5, 6]])  # O B-PER I-PER O / B-ORG I-ORG B-LOC I-LOC
    predicted = torch.tensor([[2, 1, 2, 2], [4, 4, 5, 2]])  # I-PER B-PER I-PER I-PER / I-ORG I-ORG B-LOC I-PER
    metric = EntityScore("f1")
    metric.update(F.one_hot(predicted, 7).double(), gold)
    assert [metric.true_positives.item(), metric.predicted.item(), metric.gold.item()] == [0, 2, 3]


def test_an_entity_ends_with_its_sentence():
    gold = torch.tensor([[0, 1], [2, 2]])  # O B-PER / I-PER I-PER: nothing continues over the sentence's end
    metric = EntityScore("f1")
    metric.update(F.one_hot(torch.tensor([[0, 1], [0, 0]]), 7).double(), gold)
    assert metric.compute() == 1


def test_accuracy_equals_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = torch.from_numpy(rng.integers(0, 3, (2, 200)))
    metric = Accuracy()
    metric.update(logits_for(predicted, 3, rng), labels)
    assert metric.compute().item() == accuracy_score(labels, predicted)


def test_accuracy_over_tokens_equals_scikit_learn_over_all_words_of_all_batches():
    metric, gold, predicted = TokenAccuracy(), [], []
    for seed in range(20):
        logits, labels, *named = tagging(seed)
        metric.update(logits, labels)
        gold += [tag for sentence in named[0] for tag in sentence]
        predicted += [tag for sentence in named[1] for tag in sentence]
    assert metric.compute().item() == accuracy_score(gold, predicted)


def test_accuracy_of_targets_is_the_share_that_is_right_throughout():
    labels = torch.tensor([[5, 1, IGNORED], [5, 6, 1], [4, 1, IGNORED], [5, 6, 1]])
    predicted = torch.tensor([[5, 1, 0], [5, 6, 2], [4, 1, 1], [5, 6, 1]])
    metric = Accuracy()
    metric.update(F.one_hot(predicted, 7).double(), labels)
    assert metric.compute() == 0.75


def test_accuracy_does_not_count_an_ignored_label():
    metric = Accuracy()
    metric.update(torch.eye(3), torch.tensor([0, IGNORED, 1]))
    assert metric.compute() == 0.5


def test_cross_entropy_is_the_mean_over_positions_not_over_batches():
    logits, labels = torch.randn(30, 9, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 9
    labels[3] = IGNORED
    loss, perplexity = CrossEntropy(), Perplexity()
    for part in (slice(0, 4), slice(4, 30)):
        loss.update(logits[part], labels[part])
        perplexity.update(logits[part], labels[part])
    expected = F.cross_entropy(logits.double(), labels, ignore_index=IGNORED)
    torch.testing.assert_close(loss.compute(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(perplexity.compute(), expected.exp(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [Accuracy, CrossEntropy, Perplexity, *(lambda s=s: EntityScore(s) for s in SCORES)])
def test_the_sum_of_two_processes_is_the_score_of_one(make: Callable[[], Metric]):
    one, first, second = make(), make(), make()
    for seed in range(20):
        logits, labels, *_ = tagging(seed)
        one.update(logits, labels)
        (first if seed % 3 else second).update(logits, labels)
    for state, reduction in one._reductions.items():
        total = reduction(torch.stack([getattr(first, state), getattr(second, state)]))
        setattr(first, state, total)
    torch.testing.assert_close(first.compute(), one.compute(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [Accuracy, CrossEntropy, *(lambda s=s: EntityScore(s) for s in SCORES)])
def test_a_score_of_nothing_is_zero(make: Callable[[], Metric]):
    metric = make()
    metric.update(torch.zeros(2, 3, 7), torch.full((2, 3), IGNORED))
    assert metric.compute() == 0


@pytest.mark.parametrize("make", [Accuracy, CrossEntropy, *(lambda s=s: EntityScore(s) for s in SCORES)])
def test_a_metric_that_was_reset_in_inference_mode_can_be_used_outside_it(make: Callable[[], Metric]):
    metric, expected = make(), make()
    logits, labels, *_ = tagging(1)
    with torch.inference_mode():
        metric.reset()
    metric.update(logits, labels)
    expected.update(logits, labels)
    assert metric.compute() == expected.compute()
