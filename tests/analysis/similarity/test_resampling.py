"""Nulls and intervals: how often an interval covers the truth, and that a seed fixes both."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lnsub.analysis.similarity.axes import AxesPair, PrincipalAxes
from lnsub.analysis.similarity.measures import MEASURES, svcca
from lnsub.analysis.similarity.resampling import estimates

LOADINGS = np.array([0.9, 0.7, 0.3, 0.0])
SCALES = np.array([2.0, 1.5, 1.0, 1.0])


def states(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four dimensions of both sides that correlate pairwise by LOADINGS, on SCALES."""
    rng = np.random.default_rng(seed)
    x, noise = rng.standard_normal((2, n, 4))
    y = LOADINGS * x + np.sqrt(1 - LOADINGS**2) * noise
    return torch.from_numpy(x * SCALES), torch.from_numpy(y * SCALES)


def pair(n: int, seed: int) -> AxesPair:
    return AxesPair(*(PrincipalAxes.of(side) for side in states(n, seed)))


def test_intervals_cover_what_they_are_about():
    """In 80 samples of 150 sentences. CKA's truth is known; of the others it is their mean over 400 more samples.

    An interval that covers 95 % covers fewer than 69 of 80 times once in a thousand cases.
    """
    names = ("cka", "svcca", "pwcca")
    others = [pair(150, 10_000 + seed) for seed in range(400)]
    truth = {name: np.mean([MEASURES[name].of(p.x, p.y, p.whole) for p in others]) for name in names}
    squares = SCALES**2
    truth["cka"] = ((LOADINGS * squares) ** 2).sum() / (squares**2).sum()
    covered = dict.fromkeys(names, 0)
    for seed in range(80):
        found = estimates(pair(150, seed), names, resamples=25, shuffles=0, seed=0)
        for name in names:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    assert {name: times >= 69 for name, times in covered.items()} == dict.fromkeys(names, True), covered


def test_the_null_is_what_unrelated_sentences_give():
    """CKA's is near 0. The squares of canonical correlations of independent sentences sum to d_x d_y / (n - 1)."""
    n = 200
    found = estimates(pair(n, 0), ("cka", "svcca", "biased_cka"), resamples=0, shuffles=200, seed=0)
    assert abs(found["cka"].null) < 0.01
    assert found["cka"].null_low < 0 < found["cka"].null_high < found["cka"].value
    mean_square = 4 * 4 / (n - 1) / 4
    assert 0.7 * math.sqrt(mean_square) < found["svcca"].null < math.sqrt(mean_square)
    assert found["biased_cka"].null > 0
    assert found["svcca"].null_high < found["svcca"].value
    assert found["svcca"].low is None


def test_shuffles_are_those_of_the_seed():
    x, y = states(60, 0)
    axes = AxesPair(PrincipalAxes.of(x), PrincipalAxes.of(y))
    one, again, other = (estimates(axes, ("svcca",), resamples=5, shuffles=5, seed=seed)["svcca"] for seed in (1, 1, 2))
    assert one == again
    assert (one.value, one.null != other.null, one.high != other.high) == (other.value, True, True)
    rng = np.random.default_rng([1, 1])
    values = [svcca(x, y[torch.from_numpy(rng.permutation(60))]) for _ in range(5)]
    assert one.null == pytest.approx(np.mean(values))
    assert (one.null_low, one.null_high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_more_sentences_make_a_narrower_interval_in_the_ratio_of_roots():
    widths = {}
    for n in (200, 1_800):
        found = [estimates(pair(n, seed), ("cka",), resamples=50, shuffles=0, seed=seed)["cka"] for seed in range(3)]
        widths[n] = np.mean([one.high - one.low for one in found])
    assert widths[200] / widths[1_800] == pytest.approx(3, rel=0.2)


def test_equal_states_have_an_interval_that_ends_at_1():
    x, _ = states(60, 0)
    axes = PrincipalAxes.of(x)
    for one in estimates(AxesPair(axes, axes), tuple(MEASURES), resamples=10, shuffles=0, seed=0).values():
        assert one.value == pytest.approx(1.0)
        assert one.low == pytest.approx(1.0)
        assert one.high <= 1.0


def test_there_is_no_interval_over_as_many_axes_as_a_resample_has_sentences():
    """30 sentences of 25 dimensions, of which resamples have 24: SVCCA's axes fit where few of them vary much."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(1, 1e-3, 25)
    x, y = (torch.from_numpy(rng.standard_normal((30, 25)) * scales) for _ in range(2))
    pair = AxesPair(PrincipalAxes.of(x), PrincipalAxes.of(y))
    found = estimates(pair, ("cka", "svcca", "pwcca"), resamples=10, shuffles=3, seed=0)
    assert pair.x.holding(0.99) < 23 < pair.x.rank == 25
    assert found["pwcca"].low is found["pwcca"].high is None
    assert found["pwcca"].null is not None
    assert found["svcca"].low < found["svcca"].value
    assert found["cka"].low < found["cka"].value
    (alone,) = estimates(pair, ("pwcca",), resamples=10, shuffles=0, seed=0).values()
    assert (alone.low, alone.null, alone.value) == (None, None, found["pwcca"].value)
