import math
import random
from statistics import mean

import numpy as np
import pytest
from scipy import stats

from lnsub.analysis.correlation import correlation

LANGUAGES = ("ar", "fr", "ru", "zh")


def plain_pearson(x: list[float], y: list[float]) -> float:
    a, b = mean(x), mean(y)
    top = sum((p - a) * (q - b) for p, q in zip(x, y, strict=True))
    return top / math.sqrt(sum((p - a) ** 2 for p in x) * sum((q - b) ** 2 for q in y))


def plain_ranks(values: list[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def pairs_with_values(languages: tuple[str, ...]) -> tuple[list[float], list[float], list[tuple[str, str]]]:
    rng = random.Random(1)
    pairs = [(s, t) for s in languages for t in languages if s != t]
    x = [round(rng.uniform(0.5, 0.9), 1) for _ in pairs]  # rounded, so that there are ties
    return x, [0.5 * value + rng.uniform(-0.1, 0.1) for value in x], pairs


def test_correlations_equal_their_formulas_with_fishers_interval() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    pearson, spearman = correlation(x, y, pairs, resamples=0)
    assert pearson["value"] == pytest.approx(plain_pearson(x, y))
    assert spearman["value"] == pytest.approx(plain_pearson(plain_ranks(x), plain_ranks(y)))
    low, high = stats.pearsonr(x, y).confidence_interval()
    assert (pearson["fisher_low"], pearson["fisher_high"]) == pytest.approx((low, high))
    r = spearman["value"]
    half = 1.959964 * math.sqrt((1 + r * r / 2) / (len(x) - 3))
    expected = (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
    assert (spearman["fisher_low"], spearman["fisher_high"]) == pytest.approx(expected)
    assert (pearson["pairs"], pearson["languages"], pearson["bootstrap_low"]) == (12, 4, None)


def test_the_bootstrap_draws_languages() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    rows = correlation(x, y, pairs, resamples=200, seed=3)
    rng, found = np.random.default_rng(3), {"pearson": [], "spearman": []}
    while len(found["pearson"]) < 200:
        drawn = [LANGUAGES[i] for i in rng.integers(0, 4, 4)]
        if len(set(drawn)) < 3:
            continue
        often = [drawn.count(s) * drawn.count(t) for s, t in pairs]
        a = [value for value, n in zip(x, often, strict=True) for _ in range(n)]
        b = [value for value, n in zip(y, often, strict=True) for _ in range(n)]
        found["pearson"].append(plain_pearson(a, b))
        found["spearman"].append(plain_pearson(plain_ranks(a), plain_ranks(b)))
    for row in rows:
        low, high = np.percentile(found[row["coefficient"]], [2.5, 97.5])
        assert (row["bootstrap_low"], row["bootstrap_high"]) == pytest.approx((low, high))


def test_what_does_not_vary_or_is_too_little_has_no_correlation() -> None:
    pairs = [("a", "b"), ("b", "a"), ("a", "c")]
    assert [row["value"] for row in correlation([0.1] * 3, [1, 2, 3], pairs)] == [None, None]
    (pearson, _) = correlation([1, 2], [1, 2], pairs[:2])
    assert (pearson["value"], pearson["fisher_low"], pearson["bootstrap_low"]) == (None, None, None)
    (pearson, spearman) = correlation([1, 2, 3], [1, 2, 4], pairs)
    assert (spearman["value"], pearson["fisher_low"]) == (pytest.approx(1), None)
    assert [row["value"] for row in correlation([], [], [])] == [None, None]


def test_a_perfect_correlation_has_an_interval_of_one_point() -> None:
    _, _, pairs = pairs_with_values(LANGUAGES)
    x = [float(i) for i in range(len(pairs))]
    pearson, _ = correlation(x, x, pairs, resamples=50)
    assert (pearson["fisher_low"], pearson["bootstrap_low"], pearson["bootstrap_high"]) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("x", "y", "pairs", "said"),
    [
        ([1, 2], [1], [("a", "b"), ("b", "a")], "2 and 1 values for 2 pairs"),
        ([1, math.nan], [1, 2], [("a", "b"), ("b", "a")], "finite values"),
        ([1, 2], [1, 2], [("a", "b"), ("a", "a")], "pairs of two languages"),
    ],
)
def test_a_correlation_refuses_what_it_is_not_of(x, y, pairs, said) -> None:
    with pytest.raises(ValueError, match=said):
        correlation(x, y, pairs)
