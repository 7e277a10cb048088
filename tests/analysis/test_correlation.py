import math
import random
from itertools import permutations
from statistics import mean

import numpy as np
import pytest
from scipy import stats

from lnsub.analysis.correlation import FEWEST, correlation

LANGUAGES = ("ar", "fr", "ru", "sw", "zh")

Values = tuple[list[float], list[float], list[tuple[str, str]]]


def plain_pearson(x: list[float], y: list[float]) -> float:
    a, b = mean(x), mean(y)
    top = sum((p - a) * (q - b) for p, q in zip(x, y, strict=True))
    return top / math.sqrt(sum((p - a) ** 2 for p in x) * sum((q - b) ** 2 for q in y))


def pairs_with_values(languages: tuple[str, ...], *, related: float = 0.5) -> Values:
    rng = random.Random(1)
    pairs = [(s, t) for s in languages for t in languages if s != t]
    of = {frozenset(pair): round(rng.uniform(0.5, 0.9), 1) for pair in pairs}  # rounded, so that there are ties
    x = [of[frozenset(pair)] for pair in pairs]
    return x, [related * value + rng.uniform(-0.1, 0.1) for value in x], pairs


def without_effects(values: list[float], pairs: list[tuple[str, str]]) -> list[float]:
    """Takes means of sources and targets away in turn until none is left: least squares by alternating."""
    left = list(values)
    for _ in range(60):
        for side in range(2):
            for language in {pair[side] for pair in pairs}:
                of = [i for i, pair in enumerate(pairs) if pair[side] == language]
                middle = mean(left[i] for i in of)
                for i in of:
                    left[i] -= middle
    return left


def test_correlations_equal_scipys() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    pearson, spearman = correlation(x, y, pairs)
    assert pearson["value"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman["value"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (pearson["pairs"], pearson["languages"]) == (20, 5)


def test_p_counts_the_permutations_of_languages_that_do_as_much_without_their_effects() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    (row, _) = correlation(x, y, pairs)
    of = dict(zip(pairs, x, strict=True))
    clean = without_effects(y, pairs)
    found = []
    for order in permutations(LANGUAGES):
        named = dict(zip(LANGUAGES, order, strict=True))
        moved = without_effects([of[named[s], named[t]] for s, t in pairs], pairs)
        found.append(plain_pearson(moved, clean))
    assert row["centred"] == pytest.approx(found[0])
    assert row["p"] == pytest.approx(mean(abs(r) >= abs(found[0]) - 1e-9 for r in found))


def test_effects_of_languages_alone_do_not_make_a_correlation_of_pairs() -> None:
    rng = np.random.default_rng(0)
    names = [f"l{i}" for i in range(8)]
    pairs = [(s, t) for s in names for t in names if s != t]
    verdicts = []
    for _ in range(60):
        of_language = dict(zip(names, 3 * rng.standard_normal(8), strict=True))
        noise = {frozenset(pair): rng.standard_normal() for pair in pairs}
        x = [of_language[s] + of_language[t] + noise[frozenset((s, t))] for s, t in pairs]
        y = [of_language[s] + rng.standard_normal() for s, _ in pairs]
        (row, _) = correlation(x, y, pairs)
        verdicts.append((row["value"] > 0.5, row["p"] <= 0.05))
    plain, tested = np.mean(verdicts, axis=0)
    assert plain > 0.5  # they do look related
    assert tested <= 0.15  # binomial(60, 0.05) exceeds 9 in one of a thousand cases


def test_a_relation_of_pairs_is_found_beneath_effects_of_languages() -> None:
    rng = np.random.default_rng(2)
    names = [f"l{i}" for i in range(10)]
    pairs = [(s, t) for s in names for t in names if s != t]
    noise = {frozenset(pair): rng.standard_normal() for pair in pairs}
    x = [names.index(s) + names.index(t) + noise[frozenset((s, t))] for s, t in pairs]
    y = [-5 * names.index(s) + noise[frozenset((s, t))] + rng.standard_normal() for s, t in pairs]
    (row, _) = correlation(x, y, pairs)
    assert row["value"] < 0 < row["centred"]
    assert row["p"] < 0.01


def test_drawn_permutations_are_repeatable() -> None:
    x, y, pairs = pairs_with_values(tuple(f"l{i}" for i in range(9)), related=0.1)
    assert correlation(x, y, pairs, seed=1) == correlation(x, y, pairs, seed=1)
    assert correlation(x, y, pairs, seed=1)[0]["p"] != correlation(x, y, pairs, seed=2)[0]["p"]


def test_few_languages_have_no_verdict() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES[: FEWEST - 1])
    (row, _) = correlation(x, y, pairs)
    assert row["value"] is not None
    assert row["p"] is None


def test_a_pair_without_a_value_leaves_out_the_test_but_not_its_reverse_alone() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    assert correlation(x[1:], y[1:], pairs[1:])[0]["p"] is not None  # ar-fr is known from fr-ar
    gone = [i for i, pair in enumerate(pairs) if set(pair) != {"ar", "fr"}]
    (row, _) = correlation([x[i] for i in gone], [y[i] for i in gone], [pairs[i] for i in gone])
    assert row["centred"] is not None
    assert row["p"] is None


def test_what_does_not_vary_or_is_too_little_has_no_correlation() -> None:
    pairs = [("a", "b"), ("b", "a"), ("a", "c")]
    assert [row["value"] for row in correlation([0.1] * 3, [1, 2, 3], pairs)] == [None, None]
    (pearson, _) = correlation([1, 2], [1, 2], pairs[:2])
    assert (pearson["value"], pearson["centred"], pearson["p"]) == (None, None, None)
    assert correlation([1, 2, 3], [1, 2, 4], pairs)[1]["value"] == pytest.approx(1)
    assert [row["value"] for row in correlation([], [], [])] == [None, None]


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
