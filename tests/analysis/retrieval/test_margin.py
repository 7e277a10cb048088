"""Margin scores against plain loops over the definition of Artetxe & Schwenk (2019)."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lnsub.analysis.retrieval.margin import MARGINS, accuracy, margin_scores, neighbour_means, translation_ranks


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


def ranks_by_definition(scores: list[list[float]]) -> list[int]:
    """Where the diagonal comes in each row, sorted from the highest, of equal ones the first."""
    orders = [sorted(range(len(row)), key=lambda j, row=row: (-row[j], j)) for row in scores]
    return [order.index(place) for place, order in enumerate(orders)]


def ranks(x: Tensor, y: Tensor, **settings: object) -> tuple[list[int], list[int]]:
    found = translation_ranks(x, y, **settings)
    return found.forward.tolist(), found.backward.tolist()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("n", "m", "k"), [(7, 7, 1), (9, 5, 4), (5, 11, 5)])
def test_scores_are_those_of_the_definition(margin, n, m, k):
    x, y = random_embeddings(n, m)
    expected = scores_by_definition(x.tolist(), y.tolist(), margin, k)
    u, v = normalize(x, dim=1), normalize(y, dim=1)
    scores = margin_scores(u @ v.T, neighbour_means(u, v, k), neighbour_means(v, u, k), margin)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("n", "k"), [(7, 1), (12, 5)])
def test_ranks_are_those_of_the_definition(margin, n, k):
    x, y = random_embeddings(n, n)
    scores = scores_by_definition(x.tolist(), y.tolist(), margin, k)
    forward, backward = ranks(x, y, margin=margin, k=k)
    assert forward == ranks_by_definition(scores)
    assert backward == ranks_by_definition(list(map(list, zip(*scores, strict=True))))
    assert len({*forward}) > 2


def test_accuracy_among_the_first_counts_ranks():
    found = torch.tensor([0, 3, 1, 0, 9])
    assert [accuracy(found, top) for top in (1, 2, 4, 10)] == [2 / 5, 3 / 5, 4 / 5, 1.0]


@pytest.mark.parametrize("block", [16, 1_000])
def test_of_equal_scores_the_earlier_sentence_ranks_first(block):
    """Sentences 1 to 3 of y are copies, so of the three that all match x[2] equally well its own comes second."""
    x = torch.eye(5)
    y = x[[0, 2, 2, 2, 4]]
    forward, backward = ranks(x, y, margin="absolute", block=block)
    # x[1] and x[3] have cosine 0 with all of y, of which one and three stand before their translation. Of x, only x[2]
    # is near y[1] and y[3]; after it come x[0], and x[0] and x[1], by their place alone.
    assert forward == [0, 1, 1, 3, 0]
    assert backward == [0, 2, 0, 3, 0]


def test_margins_choose_differently_where_one_sentence_is_near_to_all():
    """y[0] is a hub: by cosine it is everyone's nearest, and only a margin sees that it is no one's in particular."""
    x = torch.tensor([[1.0, 0.0, 0.9], [0.0, 1.0, 0.9], [-0.6, -0.6, 1.0]])
    y = torch.tensor([[0.0, 0.0, 1.0], [1.0, -1.0, 0.1], [-1.0, 1.0, 0.1]])
    y = y[[1, 2, 0]]  # so that sentence i of y is the translation of sentence i of x
    assert ranks(x, y, margin="absolute")[0] == [1, 1, 0]
    for margin in ("ratio", "distance"):
        assert ranks(x, y, margin=margin, k=2)[0] == [0, 0, 0]


@pytest.mark.parametrize("margin", MARGINS)
def test_blocks_change_nothing(margin):
    x, y = random_embeddings(23, 23, seed=1)
    for block in (1, 23 * 5, 23 * 22):  # one row at a time; a short last block
        assert ranks(x, y, margin=margin, k=3, block=block) == ranks(x, y, margin=margin, k=3)


@pytest.mark.parametrize("margin", MARGINS)
def test_swapping_the_languages_swaps_the_directions(margin):
    x, y = random_embeddings(12, 12, seed=2)
    assert ranks(x, y, margin=margin) == ranks(y, x, margin=margin)[::-1]


@pytest.mark.parametrize("margin", MARGINS)
def test_length_of_embeddings_does_not_matter(margin):
    x, y = random_embeddings(12, 12, seed=3)
    assert ranks(x * torch.arange(1, 13)[:, None], y * 7, margin=margin) == ranks(x, y, margin=margin)


@pytest.mark.parametrize("margin", MARGINS)
def test_identical_embeddings_are_all_found(margin):
    x, _ = random_embeddings(50, 1)
    found = translation_ranks(x, x.clone(), margin=margin)
    assert accuracy(found.forward) == accuracy(found.backward) == 1.0


@pytest.mark.parametrize("margin", MARGINS)
def test_unrelated_embeddings_are_found_by_chance(margin):
    """300 sentences, each right with a chance of 1/300: more than 8 right ones happen once in a million."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(300, 16, generator=generator) + 0.5 for _ in range(2))
    found = translation_ranks(x, y, margin=margin)
    assert accuracy(found.forward) <= 8 / 300
    assert accuracy(found.backward) <= 8 / 300


@pytest.mark.parametrize("margin", MARGINS)
def test_embeddings_that_collapsed_to_one_point_give_the_chance_level_and_not_1(margin):
    x = torch.ones(8, 4)
    found = translation_ranks(x, x, margin=margin, block=16)
    assert accuracy(found.forward) == accuracy(found.backward) == 1 / 8


def test_a_neighbourhood_below_zero_does_not_turn_the_ratio_round():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    y = torch.tensor([[-1.0, 0.1], [-1.0, 0.0]])  # all cosines are negative; y[0] is nearer to both
    assert ranks(x, y, margin="ratio", k=1)[0] == [0, 1]


def test_zero_vectors_are_near_to_nothing():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    found = translation_ranks(x, x, margin="ratio", k=2)
    assert found.forward.tolist()[1:] == [0, 0]


def test_wrong_arguments_are_named():
    x, y = random_embeddings(3, 3)
    with pytest.raises(ValueError, match="no margin 'cosine': choose from ratio, distance, absolute"):
        translation_ranks(x, y, margin="cosine")
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        translation_ranks(x, y, k=4)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.3"):
        translation_ranks(x, y, k=0)
    with pytest.raises(ValueError, match="3 sentences of one language and 2 of the other"):
        translation_ranks(x, y[:2])
