"""Margin-based retrieval: which sentence of the other language is a sentence's translation.

Artetxe & Schwenk (2019), "Margin-based Parallel Corpus Mining with Multilingual Sentence Embeddings"
(https://arxiv.org/abs/1811.01136), section 3.1. A cosine alone is not comparable from sentence to sentence: some lie
close to everything. So a pair's cosine a is held against b, the mean cosine of both sentences with their k nearest
neighbours in the other language::

    score(x, y) = margin(a, b)
    a = cos(x, y)
    b = sum over z in NN_k(x) of cos(x, z) / 2k + sum over z in NN_k(y) of cos(y, z) / 2k

The cosines of all pairs are never held at once: they are made again, block by block, wherever they are needed.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 16_000_000
"""Cosines held at once: 64 MB in float32."""

_LEAST = 1e-6


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    # Below zero a quotient would turn the order round, which the paper, whose cosines are positive, need not consider.
    return a / b.clamp_min(_LEAST)


MARGINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ratio": _ratio,
    "distance": torch.sub,
    "absolute": lambda a, b: a,
}
"""The margins by name, functions of a and b: a / b (a b below 1e-6 counts as 1e-6), a - b, and a alone."""


class Ranks(NamedTuple):
    """For each sentence, how many of the other language rank before its translation: 0 where it is found first.

    Attributes:
        forward: of the translations y of the sentences x: int64 [n].
        backward: of the translations x of the sentences y: int64 [n].
    """

    forward: Tensor
    backward: Tensor


def neighbour_means(x: Tensor, y: Tensor, k: int, block: int = BLOCK) -> Tensor:
    """The mean cosine of each sentence x with its k nearest neighbours among the sentences y.

    Args:
        x: embeddings of length 1, float [n, hidden].
        y: likewise, [m, hidden].
        k: how many neighbours, in 1..m.
        block: cosines held at once.

    Returns:
        The means, [n].

    Raises:
        ValueError: there are fewer than k sentences y, or k is below 1.
    """
    if not 1 <= k <= len(y):
        raise ValueError(f"k must lie in 1..{len(y)}, the number of sentences to search, not at {k}")
    return torch.cat([cosines.topk(k, dim=1).values.mean(dim=1) for _, cosines in _blocks(x, y, block)])


def margin_scores(cosines: Tensor, near_x: Tensor, near_y: Tensor, margin: str) -> Tensor:
    """Scores pairs by their cosines and their neighbourhoods.

    Args:
        cosines: [n, m].
        near_x: what :func:`neighbour_means` gives for the n sentences, [n].
        near_y: the same for the m sentences of the other language, [m].
        margin: one of :data:`MARGINS`.

    Returns:
        The scores, [n, m]; the higher, the more a pair looks like a translation.
    """
    return MARGINS[margin](cosines, (near_x[:, None] + near_y) / 2)


def translation_ranks(x: Tensor, y: Tensor, *, margin: str = "ratio", k: int = 4, block: int = BLOCK) -> Ranks:
    """Ranks, in both directions, each sentence's translation by the score among all sentences of the other language.

    Args:
        x: embeddings of one language, float [n, hidden], of any length but 0; a zero vector has cosine 0 with all.
        y: embeddings of their translations in the same order, on the same device.
        margin: one of :data:`MARGINS`.
        k: neighbours that the margin looks at, in 1..n; ``absolute`` looks at none.
        block: cosines held at once.

    Returns:
        The ranks, on the same device, exact: over all sentences, not only over the nearest neighbours. Of equal scores
        the earlier sentence ranks first.

    Raises:
        ValueError: there is no such margin, there are fewer than k sentences, or not as many of either language.
    """
    if margin not in MARGINS:
        raise ValueError(f"there is no margin {margin!r}: choose from {', '.join(MARGINS)}")
    if len(x) != len(y):
        raise ValueError(f"there are {len(x)} sentences of one language and {len(y)} of the other")
    x, y = normalize(x, dim=1), normalize(y, dim=1)
    if margin == "absolute":
        near_x, near_y = x.new_zeros(len(x)), y.new_zeros(len(y))
    else:
        near_x, near_y = neighbour_means(x, y, k, block), neighbour_means(y, x, k, block)
    places = torch.arange(len(x), device=x.device)
    forward, backward = torch.empty_like(places), torch.zeros_like(places)
    own = x.new_empty(len(x))
    for rows, cosines in _blocks(x, y, block):
        scores = margin_scores(cosines, near_x[rows], near_y, margin)
        own[rows] = scores[places[: len(scores)], places[rows]]
        forward[rows] = _before(scores, own[rows, None], places < places[rows, None]).sum(dim=1)
    # The second time round, as a block's columns are held against scores of translations in later blocks. The blocks
    # are the same, and so, to the last bit, are their cosines: a tie is a tie in both directions.
    for rows, cosines in _blocks(x, y, block):
        scores = margin_scores(cosines, near_x[rows], near_y, margin)
        backward += _before(scores, own, places[rows, None] < places).sum(dim=0)
    return Ranks(forward, backward)


def accuracy(ranks: Tensor, top: int = 1) -> float:
    """The share of sentences whose translation is among the first ``top``.

    Args:
        ranks: :attr:`Ranks.forward` or :attr:`Ranks.backward`.
        top: how many count.

    Returns:
        A share from 0 to 1. Guessing gives top / n.
    """
    return int((ranks < top).sum()) / len(ranks)


def _before(scores: Tensor, own: Tensor, earlier: Tensor) -> Tensor:
    """Which sentences rank before the translation: those that score higher, and earlier ones that score the same."""
    return (scores > own) | ((scores == own) & earlier)


def _blocks(x: Tensor, y: Tensor, block: int) -> Iterator[tuple[slice, Tensor]]:
    """The cosines of all pairs, [rows, m], a block of rows of ``x`` at a time."""
    height = max(1, block // len(y))
    for start in range(0, len(x), height):
        rows = slice(start, min(start + height, len(x)))
        yield rows, x[rows] @ y.T
