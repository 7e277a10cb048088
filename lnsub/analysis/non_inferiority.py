"""Whether a ticket does as well as the dense model, by the examples that both were measured on: a non-inferiority test.

"Within one standard error" calls an equal model worse in a quarter of tries, and grows more generous the fewer examples
there are. Here a margin says how much worse is still as good, and a model matches where the data rule out that it is
worse than that: the one-sided 95 % bound of the difference, by a bootstrap over examples, lies within the margin. Fewer
examples make it harder to match, not easier. Both models see the same examples, which are drawn together (paired).

It knows nothing of seeds: where there are several, :mod:`lnsub.analysis.criteria` goes by their spread. It takes what
each example adds to the metric (:mod:`lnsub.runs.examples`), one row of sums an example, such as ``correct, 1`` of a
sentence pair, ``true positives, predicted, labelled`` of a sentence with entities, or ``correct, masked`` of a block of
masked tokens. An example is what is drawn independently: tokens of one block are not.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 2000
"""Bootstrap samples."""

_AT_ONCE = 100
_MOST_KEPT = 20_000  # examples: 80 MB

_SIDE = 5  # per cent on the one side that counts

Metric = Callable[[np.ndarray], np.ndarray]
"""From sums over examples, (..., K), to the metric's values, (...)."""


def share(sums: np.ndarray) -> np.ndarray:
    """Accuracy: the first of two sums over the second."""
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))


def f1(sums: np.ndarray) -> np.ndarray:
    """The micro F1 of true positives, predicted and labelled entities."""
    return np.asarray(2 * sums[..., 0] / np.maximum(sums[..., 1] + sums[..., 2], 1))


def _draws(n: int, resamples: int, seed: int) -> Iterable[np.ndarray]:
    """How often each of n examples is in each bootstrap sample, [up to 100, n] at a time."""
    # A report compares some hundred pairs of models on the same number of examples.
    return _kept_draws(n, resamples, seed) if n <= _MOST_KEPT else _fresh_draws(n, resamples, seed)


@lru_cache(maxsize=2)
def _kept_draws(n: int, resamples: int, seed: int) -> list[np.ndarray]:
    return list(_fresh_draws(n, resamples, seed))


def _fresh_draws(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for done in range(0, resamples, _AT_ONCE):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(_AT_ONCE, resamples - done))
        yield drawn.astype(np.uint16)


@dataclass(frozen=True)
class Match:
    """How a model compares with a reference on the same examples.

    Attributes:
        difference: the model's metric less the reference's, in the metric's units, positive where it is better.
        bound: what the difference exceeds with 95 % confidence.
        margin: how far the model may fall short.
        above_chance: whether the reference exceeds chance, with 95 % confidence.
        matches: the bound is within the margin, and the reference is above chance: a model that has learnt nothing is
            matched by anything.
    """

    difference: float
    bound: float
    margin: float
    above_chance: bool

    @property
    def matches(self) -> bool:
        """See the class."""
        return self.above_chance and self.bound >= -self.margin


def matched(
    model: np.ndarray,
    reference: np.ndarray,
    metric: Metric = share,
    *,
    margin: float,
    chance: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Match:
    """Compares a model with a reference by a paired bootstrap over examples. Higher is better.

    Args:
        model: (n, K) what each of n examples adds to the sums that the metric is made of.
        reference: the same of the reference, for the same examples in the same order.
        metric: from sums to values: :func:`share`, :func:`f1`, or another.
        margin: how far the model may fall short, in the metric's units, at least 0.
        chance: the metric without any learning, such as 1/3 of three balanced classes.
        resamples: bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        The comparison.

    Raises:
        ValueError: the two are of different examples or of none, or the margin is negative.
    """
    if model.shape != reference.shape or model.ndim != 2 or not len(model):
        raise ValueError(f"a paired comparison takes the same examples, not {model.shape} and {reference.shape}")
    if not margin >= 0:
        raise ValueError(f"a margin is at least 0, not {margin}")
    both = np.concatenate([model, reference], axis=1).astype(float)
    # In turns, so that memory stays small however many examples there are.
    sums = np.concatenate([draws.astype(float) @ both for draws in _draws(len(model), resamples, seed)])
    ours, its = metric(sums[:, : model.shape[1]]), metric(sums[:, model.shape[1] :])
    return Match(
        difference=float(metric(model.sum(axis=0)) - metric(reference.sum(axis=0))),
        bound=float(np.percentile(ours - its, _SIDE)),
        margin=margin,
        above_chance=bool(np.percentile(its, _SIDE) > chance),
    )
