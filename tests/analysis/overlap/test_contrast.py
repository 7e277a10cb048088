import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import t as t_distribution

from lnsub.analysis.overlap.contrast import contrast, language_contrasts, pairs_between, table_of
from lnsub.analysis.overlap.jaccard import overlap
from tests.support.ticket_factory import random_masks, random_ticket, ticket

SHAPES = {"encoder.layer.0.attention.self.query.weight": (40, 50)}


def diagonal_wins(table: list[list[float]]) -> float:
    """The share of pairings whose sum is no lower, counted one by one."""
    own = math.fsum(table[i][i] for i in range(len(table)))
    sums = [math.fsum(table[i][j] for i, j in enumerate(order)) for order in permutations(range(len(table)))]
    return sum(value >= own - 1e-12 for value in sums) / len(sums)


@pytest.mark.parametrize("size", [2, 3, 5, 6])
def test_p_is_the_share_of_pairings_that_are_as_high(size: int) -> None:
    rng = np.random.default_rng(size)
    for lift in (0.0, 0.5, 3.0):
        table = rng.standard_normal((size, size)) + lift * np.eye(size)
        found = contrast(table)
        assert found["p"] == pytest.approx(diagonal_wins(table.tolist()))
        assert found["smallest_p"] == pytest.approx(1 / math.factorial(size))
    assert contrast(np.eye(size))["p"] == found["smallest_p"]


def test_many_languages_have_drawn_pairings_the_identity_among_them() -> None:
    found = contrast(np.eye(9))
    assert found["p"] == found["smallest_p"] == 1 / 10_000
    flat = np.random.default_rng(0).standard_normal((9, 9))
    draws = [contrast(flat, seed=seed)["p"] for seed in range(2)]
    assert draws[0] == pytest.approx(draws[1], abs=0.03)


def test_effects_of_languages_alone_add_up_to_the_same_in_every_pairing() -> None:
    rng = np.random.default_rng(1)
    assert contrast(rng.standard_normal((5, 1)) + rng.standard_normal(5))["p"] == 1
    table = rng.standard_normal((5, 5))
    assert contrast(table)["p"] == contrast(table + rng.standard_normal((5, 1)) + rng.standard_normal(5))["p"]


def test_difference_and_ratio_have_the_jackknifes_interval_over_languages() -> None:
    table = np.random.default_rng(2).uniform(0.1, 0.2, (4, 4)) + 0.3 * np.eye(4)

    def difference(keep: list[int]) -> float:
        own = np.mean([table[i, i] for i in keep])
        return float(own - np.mean([table[i, j] for i, j in product(keep, keep) if i != j]))

    found = contrast(table)
    left_out = [difference([j for j in range(4) if j != i]) for i in range(4)]
    half = t_distribution.ppf(0.975, 3) * math.sqrt(3 * np.var(left_out))
    assert found["difference"] == pytest.approx(difference([0, 1, 2, 3]))
    assert (found["difference_low"], found["difference_high"]) == pytest.approx(
        (found["difference"] - half, found["difference"] + half)
    )
    assert found["ratio"] == pytest.approx(found["other_language"] / found["same_language"])
    assert found["ratio_low"] < found["ratio"] < found["ratio_high"]
    assert contrast(table[:2, :2])["difference_low"] is None


def test_tickets_are_contrasted_over_the_languages_that_both_sets_have() -> None:
    made = []
    for place, language in enumerate(("ar", "fr", "ur", "zh")):
        base = random_masks(0.5, place, SHAPES)
        for number, condition in enumerate(("", "sample1")):
            if (language, condition) == ("zh", "sample1"):
                continue
            run = np.random.default_rng([place, number])
            masks = {name: mask ^ (run.random(mask.shape) < 0.1) for name, mask in base.items()}
            made.append(ticket(masks, language=language, condition=condition, rows=f"{language} {condition}"))
    pairs = overlap(made)
    rows = language_contrasts(made, pairs, [("seed0-sample1", "seed0")])
    assert [row["measure"] for row in rows] == ["overlap", "corrected"]
    row = rows[0]
    assert (row["shared"], row["shared_same"], row["languages"]) == ("head + order", "head + order + language", 3)
    of = {frozenset((pair["a"], pair["b"])): pair["overlap"] for pair in pairs}

    def name(language: str, run: str) -> str:
        return f"xnli/{language}/{run}/s0.50"

    table = [
        [of[frozenset((name(a, "seed0-sample1"), name(b, "seed0")))] for b in ("ar", "fr", "ur")]
        for a in ("ar", "fr", "ur")
    ]
    assert row["same_language"] == pytest.approx(np.mean(np.diag(table)))
    assert row["p"] == pytest.approx(diagonal_wins(table)) == pytest.approx(1 / 6)
    languages, found = table_of(pairs_between(pairs, ("seed0-sample1", "seed0")), "overlap")
    assert languages == ["ar", "fr", "ur"]
    assert found == pytest.approx(np.array(table))


def test_sets_with_one_language_in_common_have_no_contrast() -> None:
    made = [random_ticket(0.5, 1), random_ticket(0.5, 2, seed=1), random_ticket(0.5, 3, language="de")]
    assert language_contrasts(made, overlap(made), [("seed0", "seed1")]) == []
    with pytest.raises(ValueError, match="two languages or more"):
        contrast(np.array([[np.nan, 1], [1, 1]]))
