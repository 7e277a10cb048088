from itertools import combinations
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from lnsub.analysis.overlap.clusters import adjusted_rand, find_clusters, language_rows
from lnsub.common.errors import UserError

NAMES = ("ar", "de", "en", "fr", "hi", "ru", "sw")


def pairs_of(matrices: dict[int, np.ndarray], names: tuple[str, ...] = NAMES) -> list[dict[str, Any]]:
    return [
        {"language_a": names[i], "language_b": names[j], "seed_a": seed, "seed_b": seed, "overlap": matrix[i, j]}
        for seed, matrix in matrices.items()
        for i, j in combinations(range(len(names)), 2)
    ]


def random_matrix(number: int, size: int = len(NAMES)) -> np.ndarray:
    found = np.random.default_rng(number).uniform(0.4, 0.9, (size, size))
    return (found + found.T) / 2


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("count", [2, 3, 5])
def test_clusters_equal_those_of_another_library(number: int, count: int) -> None:
    matrix = random_matrix(number)
    distances = 1 - matrix
    np.fill_diagonal(distances, 0)
    other = AgglomerativeClustering(count, metric="precomputed", linkage="average").fit_predict(distances)
    found = find_clusters(pairs_of({1: matrix}), count)
    assert found.count == count
    assert adjusted_rand_score(other, [found.cluster[name] for name in NAMES]) == 1


@pytest.mark.parametrize("number", range(5))
def test_the_adjusted_rand_index_equals_that_of_another_library(number: int) -> None:
    a, b = np.random.default_rng(number).integers(0, 3, (2, 12)).tolist()
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(a, a) == 1


def blocks(inside: float, between: float, noise: int = 0) -> np.ndarray:
    """Clusters {ar, de, en, fr} and {hi, ru, sw}."""
    place = np.array([0, 0, 0, 0, 1, 1, 1])
    jitter = 0.01 * random_matrix(noise)
    return np.where(place[:, None] == place, inside, between) + jitter


def test_the_largest_gap_finds_clusters_and_neighbours_in_the_order_are_alike() -> None:
    found = find_clusters(pairs_of({seed: blocks(0.9, 0.6, seed) for seed in (1, 2, 3)}))
    assert sorted(map(sorted, found.groups)) == [["ar", "de", "en", "fr"], ["hi", "ru", "sw"]]
    assert (found.seeds, found.stability) == (3, 1.0)
    assert found.gap == pytest.approx(0.3, abs=0.02)
    assert found.cophenetic > 0.99
    assert {row["held"] for row in language_rows(found)} == {1.0}
    assert [row["language"] for row in language_rows(found)] == list(found.order)
    assert [row["cluster"] for row in language_rows(found)] == sorted(row["cluster"] for row in language_rows(found))


def test_a_hand_worked_tree() -> None:
    # a and b merge at 0.1, c and d at 0.2, and the two at the mean of 0.5, 0.6, 0.6 and 0.7.
    overlaps = {("a", "b"): 0.9, ("c", "d"): 0.8, ("a", "c"): 0.5, ("a", "d"): 0.4, ("b", "c"): 0.4, ("b", "d"): 0.3}
    facts = {"seed_a": 1, "seed_b": 1}
    found = find_clusters([facts | {"language_a": a, "language_b": b, "overlap": v} for (a, b), v in overlaps.items()])
    assert found.cluster["a"] == found.cluster["b"] != found.cluster["c"] == found.cluster["d"]
    assert found.gap == pytest.approx(0.6 - 0.2)
    assert list(found.order) in (["b", "a", "c", "d"], ["d", "c", "a", "b"])  # a and c, the nearest, are neighbours


def test_stability_is_unknown_with_one_seed_and_low_where_seeds_disagree() -> None:
    assert find_clusters(pairs_of({1: blocks(0.9, 0.6)})).stability is None
    turned = blocks(0.9, 0.6)[::-1, ::-1]
    found = find_clusters(pairs_of({1: blocks(0.9, 0.6), 2: turned}), 2)
    place = [0, 0, 0, 0, 1, 1, 1]
    assert found.stability == pytest.approx(adjusted_rand_score(place, place[::-1]))
    assert found.stability < 0.5
    assert 0 < min(row["held"] for row in language_rows(found) if row["held"] is not None) < 1


def test_two_languages_have_no_clusters_nor_do_those_that_were_not_all_compared() -> None:
    assert find_clusters(pairs_of({1: random_matrix(0, 2)}, ("fr", "ru"))) is None
    assert find_clusters(pairs_of({1: random_matrix(0)})[1:]) is None
    assert find_clusters([]) is None
    assert find_clusters(pairs_of({1: np.full((3, 3), 0.5)}, ("fr", "ru", "zh"))).count == 2


@pytest.mark.parametrize("count", [1, 7, 90])
def test_a_number_of_clusters_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"between 2 and 6 clusters, not {count}"):
        find_clusters(pairs_of({1: random_matrix(0)}), count)
