"""Margin scores against plain loops over the definition of Artetxe & Schwenk (2019)."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lnsub.analysis.retrieval.margin import MARGINS, accuracy, best_matches, margin_scores, neighbour_means


def random_embeddings(n: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two sets in one half-space, so that cosines are positive as those of real encoders are."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 6, generator=generator, dtype=torch.float64) + 1), (
        torch.randn(m, 6, generator=generator, dtype=torch.float64) + 1
    )


def cosine(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def scores_by_definition(xs: list[list[float]], ys: list[list[float]], margin: str, k: int) -> list[list[float]]:
    scores = []
    for x in xs:
        row = []
        for y in ys:
            of_x = sorted((cosine(x, z) for z in ys), reverse=True)[:k]
            of_y = sorted((cosine(y, z) for z in xs), reverse=True)[:k]
            b = sum(c / (2 * k) for c in of_x) + sum(c / (2 * k) for c in of_y)
            a = cosine(x, y)
            row.append({"absolute": a, "distance": a - b, "ratio": a / b}[margin])
        scores.append(row)
    return scores


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("n", "m", "k"), [(7, 7, 1), (9, 5, 4), (5, 11, 5)])
def test_scores_and_matches_are_those_of_the_definition(margin, n, m, k):
    x, y = random_embeddings(n, m)
    expected = scores_by_definition(x.tolist(), y.tolist(), margin, k)
    u, v = normalize(x, dim=1), normalize(y, dim=1)
    scores = margin_scores(u @ v.T, neighbour_means(u, v, k), neighbour_means(v, u, k), margin)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64))
    matches = best_matches(x, y, margin=margin, k=k)
    assert matches.forward.tolist() == [row.index(max(row)) for row in expected]
    assert matches.backward.tolist() == [column.index(max(column)) for column in map(list, zip(*expected, strict=True))]


def test_margins_choose_differently_where_one_sentence_is_near_to_all():
    """y[0] is a hub: by cosine it is everyone's nearest, and only a margin sees that it is no one's in particular."""
    x = torch.tensor([[1.0, 0.0, 0.9], [0.0, 1.0, 0.9], [-0.6, -0.6, 1.0]])
    y = torch.tensor([[0.0, 0.0, 1.0], [1.0, -1.0, 0.1], [-1.0, 1.0, 0.1]])
    assert best_matches(x, y, margin="absolute").forward.tolist() == [0, 0, 0]
    for margin in ("ratio", "distance"):
        assert best_matches(x, y, margin=margin, k=2).forward.tolist() == [1, 2, 0]


@pytest.mark.parametrize("margin", MARGINS)
def test_blocks_change_nothing(margin):
    x, y = random_embeddings(23, 17, seed=1)
    whole = best_matches(x, y, margin=margin, k=3)
    for block in (1, 17 * 5, 17 * 22):  # one row at a time; a short last block
        blocked = best_matches(x, y, margin=margin, k=3, block=block)
        assert blocked.forward.tolist() == whole.forward.tolist()
        assert blocked.backward.tolist() == whole.backward.tolist()


@pytest.mark.parametrize("margin", MARGINS)
def test_swapping_the_languages_swaps_the_directions(margin):
    x, y = random_embeddings(12, 12, seed=2)
    there, back = best_matches(x, y, margin=margin), best_matches(y, x, margin=margin)
    assert there.forward.tolist() == back.backward.tolist()
    assert there.backward.tolist() == back.forward.tolist()


@pytest.mark.parametrize("margin", MARGINS)
def test_length_of_embeddings_does_not_matter(margin):
    x, y = random_embeddings(12, 12, seed=3)
    longer = best_matches(x * torch.arange(1, 13)[:, None], y * 7, margin=margin)
    assert longer.forward.tolist() == best_matches(x, y, margin=margin).forward.tolist()


@pytest.mark.parametrize("margin", MARGINS)
def test_identical_embeddings_are_all_found(margin):
    x, _ = random_embeddings(50, 1)
    matches = best_matches(x, x.clone(), margin=margin)
    assert accuracy(matches.forward) == accuracy(matches.backward) == 1.0


@pytest.mark.parametrize("margin", MARGINS)
def test_unrelated_embeddings_are_found_by_chance(margin):
    """300 sentences, each right with a chance of 1/300: more than 8 right ones happen once in a million."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(300, 16, generator=generator) + 0.5 for _ in range(2))
    matches = best_matches(x, y, margin=margin)
    assert accuracy(matches.forward) <= 8 / 300
    assert accuracy(matches.backward) <= 8 / 300


@pytest.mark.parametrize("margin", MARGINS)
def test_embeddings_that_collapsed_to_one_point_give_the_chance_level_and_not_1(margin):
    x = torch.ones(8, 4)
    matches = best_matches(x, x, margin=margin, block=16)
    assert accuracy(matches.forward) == accuracy(matches.backward) == 1 / 8


def test_a_neighbourhood_below_zero_does_not_turn_the_ratio_round():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    y = torch.tensor([[-1.0, 0.1], [-1.0, 0.0]])  # all cosines are negative; y[0] is nearer to both
    assert best_matches(x, y, margin="ratio", k=1).forward.tolist() == [0, 0]


def test_zero_vectors_are_near_to_nothing():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    matches = best_matches(x, x, margin="ratio", k=2)
    assert matches.forward.tolist()[1:] == [1, 2]


def test_wrong_arguments_are_named():
    x, y = random_embeddings(4, 3)
    with pytest.raises(ValueError, match="no margin 'cosine': choose from ratio, distance, absolute"):
        best_matches(x, y, margin="cosine")
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        best_matches(x, y, k=4)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        best_matches(x, y, k=0)
