import numpy as np
import pytest
from scipy import stats

from lnsub.analysis.non_inferiority import f1, matched


def answers(rng: np.random.Generator, share: float, n: int) -> np.ndarray:
    return np.stack([rng.random(n) < share, np.ones(n, bool)], axis=1)


def test_the_bound_of_a_share_is_that_of_the_mean_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    ours, its = answers(rng, 0.7, 800), answers(rng, 0.72, 800)
    found = matched(ours, its, margin=0.02, chance=0.5)
    differences = ours[:, 0].astype(float) - its[:, 0]
    assert found.difference == pytest.approx(differences.mean())
    expected = differences.mean() + stats.norm.ppf(0.05) * differences.std() / np.sqrt(800)
    assert found.bound == pytest.approx(expected, abs=0.003)


def test_a_model_worse_by_the_margin_matches_in_one_of_twenty_cases_at_most_about() -> None:
    rng = np.random.default_rng(1)
    made = [
        matched(answers(rng, 0.75, 600), answers(rng, 0.8, 600), margin=0.05, chance=0.5, resamples=200).matches
        for _ in range(200)
    ]
    assert np.mean(made) <= 0.1  # binomial(200, 0.05) exceeds 20 in two of a thousand cases


@pytest.mark.parametrize(("n", "matches"), [(60, False), (6000, True)])
def test_few_examples_make_it_harder_to_match(n: int, matches: bool) -> None:
    rng = np.random.default_rng(2)
    assert matched(answers(rng, 0.8, n), answers(rng, 0.8, n), margin=0.03, chance=0.5).matches == matches


def test_the_same_answers_match_within_any_margin_unless_the_reference_is_at_chance() -> None:
    good, guessed = (answers(np.random.default_rng(3), share, 500) for share in (0.6, 0.34))
    found = matched(good, good, margin=0, chance=1 / 3)
    assert (found.difference, found.bound, found.matches) == (0, 0, True)
    found = matched(guessed, guessed, margin=0.05, chance=1 / 3)
    assert (found.bound, found.above_chance, found.matches) == (0, False, False)
    assert not matched(good, guessed, margin=0.05, chance=1 / 3).matches


def test_examples_are_drawn_whole() -> None:
    """Tokens of a block that are right or wrong together are one observation, not a hundred."""
    rng = np.random.default_rng(4)
    blocks = [np.stack([100 * (rng.random(50) < 0.6), np.full(50, 100)], axis=1) for _ in range(2)]
    tokens = [np.stack([np.repeat(b[:, 0] // 100, 100), np.ones(5000, int)], axis=1) for b in blocks]
    whole, apart = (matched(ours, its, margin=0.1, chance=0.1) for ours, its in (blocks, tokens))
    assert whole.difference == apart.difference
    assert whole.difference - whole.bound > 5 * (apart.difference - apart.bound)


def test_f1_is_of_sums_over_sentences() -> None:
    sums = np.array([[3, 4, 5], [0, 0, 0]])
    assert f1(sums) == pytest.approx([2 * 3 / 9, 0])
    found = matched(sums[[0, 0, 0]], sums[[0, 0, 0]], f1, margin=0, chance=0)
    assert (found.difference, found.matches) == (0, True)


def test_other_examples_or_a_negative_margin_are_refused() -> None:
    a = np.ones((3, 2))
    with pytest.raises(ValueError, match="the same examples"):
        matched(a, a[:2], margin=0, chance=0)
    with pytest.raises(ValueError, match="the same examples"):
        matched(a[:0], a[:0], margin=0, chance=0)
    with pytest.raises(ValueError, match="margin"):
        matched(a, a, margin=-0.1, chance=0)
