"""Measures of similarity against scikit-learn, naive loops over their definitions, and cases worked out by hand."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor

from lnsub.analysis.similarity.axes import AxesPair, PrincipalAxes
from lnsub.analysis.similarity.measures import MEASURES, biased_cka, canonical_correlations, cka, pwcca, svcca

BY_NAME = {"cka": cka, "svcca": svcca, "pwcca": pwcca, "biased_cka": biased_cka}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Six and five dimensions that share three, mixed, shifted, and with noise."""
    shared = draw(n, 3, seed=seed)
    x = torch.cat([shared, draw(n, 3, seed=seed + 1)], dim=1) @ draw(6, 6, seed=100) + 3
    y = torch.cat([shared, draw(n, 2, seed=seed + 2)], dim=1) @ draw(5, 5, seed=101) + 0.5 * draw(n, 5, seed=seed + 3)
    return x, y


def rotation(size: int, seed: int = 7) -> Tensor:
    return torch.linalg.qr(draw(size, size, seed=seed))[0]


def test_canonical_correlations_are_scikit_learns():
    x, y = related()
    fitted = CCA(n_components=5, max_iter=10_000, tol=1e-14).fit(x.numpy(), y.numpy())
    u, v = fitted.transform(x.numpy(), y.numpy())
    expected = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(5)]
    np.testing.assert_allclose(canonical_correlations(x, y).numpy(), expected, atol=1e-6)


def test_canonical_correlations_worked_out_by_hand():
    """Orthogonal columns: the first of both make an angle of cosine 0.6, and the second of x meets nothing."""
    e = torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=torch.float64)
    x = torch.stack([e[0], 2 * e[1]], dim=1)
    y = (0.6 * e[0] + 0.8 * e[2])[:, None]
    assert canonical_correlations(x, y).tolist() == pytest.approx([0.6], abs=1e-12)
    # The products of centred states: ||X'Y||^2 = (4 * 0.6)^2, ||X'X||^2 = 4^2 + 16^2, ||Y'Y||^2 = 4^2.
    assert biased_cka(x, y) == pytest.approx(2.4**2 / (math.sqrt(16 + 256) * 4))
    both = torch.stack([0.6 * e[0] + 0.8 * e[2], e[1]], dim=1)
    assert canonical_correlations(x, both).tolist() == pytest.approx([1.0, 0.6])
    assert svcca(x, both, kept=1.0) == pytest.approx(0.8)
    # Of x, 4/5 of the variance lie in the second column; to hold 80 % (but 79 is safer to write) that one is enough.
    assert svcca(x, both, kept=0.79) == pytest.approx((1 + 0) / 1)
    # Variates e1/2 and e0/2; their absolute products with x's columns: (0, 4) and (2, 0).
    assert pwcca(x, both) == pytest.approx((4 * 1.0 + 2 * 0.6) / 6)
    # Of both, whose columns have products (0, 2) with e1/2 and (2, 0) with the other.
    assert pwcca(both, x) == pytest.approx((2 * 1.0 + 2 * 0.6) / 4)


def hsic_by_u_statistic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. (2012), equation 4, as a mean over all ordered quadruples of different sentences."""
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return float(np.mean(terms))


def test_unbiased_cka_is_the_ratio_of_u_statistics():
    x, y = (part[:9] for part in related())
    k, m = (x @ x.T).numpy(), (y @ y.T).numpy()
    expected = hsic_by_u_statistic(k, m) / math.sqrt(hsic_by_u_statistic(k, k) * hsic_by_u_statistic(m, m))
    assert cka(x, y) == pytest.approx(expected, rel=1e-9)


def test_unbiased_cka_is_the_formula_of_kernel_matrices():
    """Song et al. (2012), equation 5, on the kernel matrices of states that are not centred."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        n, ones = len(k), np.ones(len(k))
        found = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (found - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))

    x, y = related(60)
    k, m = (x @ x.T).numpy(), (y @ y.T).numpy()
    assert cka(x, y) == pytest.approx(hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m)), rel=1e-9)


def test_biased_cka_is_that_of_centred_kernels():
    x, y = related(60)
    centring = np.eye(60) - 1 / 60
    k, m = centring @ (x @ x.T).numpy() @ centring, centring @ (y @ y.T).numpy() @ centring
    assert biased_cka(x, y) == pytest.approx((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))


def test_svcca_is_the_correlation_of_reduced_states():
    x, y = related()
    x = x * torch.tensor([10.0, 10, 10, 1, 0.1, 0.1])
    reduced = []
    for states in (x, y):
        centred = (states - states.mean(dim=0)).numpy()
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        kept = int(np.argmax(np.cumsum(s**2) / (s**2).sum() >= 0.99)) + 1
        reduced.append(u[:, :kept] * s[:kept])
    assert reduced[0].shape[1] < 6
    k = min(part.shape[1] for part in reduced)
    u, v = CCA(n_components=k, max_iter=10_000, tol=1e-14).fit(*reduced).transform(*reduced)
    expected = np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(k)])
    assert svcca(x, y) == pytest.approx(expected, abs=1e-6)


def pwcca_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """By QR decompositions, on states of full rank."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    qx, qy = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    w, found, _ = np.linalg.svd(qx.T @ qy)
    variates = (qx @ w)[:, : len(found)]
    weights = np.abs(variates.T @ x).sum(axis=1)
    return float((weights * found).sum() / weights.sum())


def test_pwcca_is_that_of_the_definition_and_not_symmetric():
    x, y = related()
    there, back = pwcca(x, y), pwcca(y, x)
    assert there == pytest.approx(pwcca_by_definition(x.numpy(), y.numpy()))
    assert back == pytest.approx(pwcca_by_definition(y.numpy(), x.numpy()))
    assert abs(there - back) > 0.05


def test_rotations_and_scales_change_nothing_but_what_pwcca_makes_of_a_rotated_x():
    x, y = related()
    for measure in BY_NAME.values():
        assert measure(4 * x - 1, y @ rotation(5) * 0.3 + 2) == pytest.approx(measure(x, y), abs=1e-9)
    for name in ("cka", "biased_cka", "svcca"):
        assert BY_NAME[name](x @ rotation(6), y) == pytest.approx(BY_NAME[name](x, y), abs=1e-9)
    turned = pwcca(x @ rotation(6), y)
    assert turned == pytest.approx(pwcca_by_definition((x @ rotation(6)).numpy(), y.numpy()))
    assert 1e-3 < abs(turned - pwcca(x, y)) < 0.1


def test_invertible_maps_leave_canonical_correlations_alone_but_not_cka():
    x, y = related()
    stretched = x * torch.tensor([1.0, 1, 1, 9, 1, 1])
    torch.testing.assert_close(canonical_correlations(stretched, y), canonical_correlations(x, y))
    assert svcca(stretched, y, kept=1.0) == pytest.approx(svcca(x, y, kept=1.0))
    assert pwcca(x, y @ draw(5, 5, seed=9)) == pytest.approx(pwcca(x, y))
    assert abs(cka(stretched, y) - cka(x, y)) > 0.05


@pytest.mark.parametrize("measure", BY_NAME.values(), ids=BY_NAME)
def test_equal_states_are_as_similar_as_can_be(measure):
    x, _ = related()
    assert measure(x, x) == pytest.approx(1.0)


def test_independent_states_are_not_similar_by_unbiased_cka_alone():
    """Of 60 sentences in 50 dimensions; 30 draws."""
    pairs = [(draw(60, 50, seed=s), draw(60, 50, seed=1000 + s)) for s in range(30)]
    assert np.mean([cka(x, y) for x, y in pairs]) == pytest.approx(0, abs=0.02)
    assert min(biased_cka(x, y) for x, y in pairs) > 0.4
    assert min(pwcca(x, y) for x, y in pairs) > 0.8


def test_states_of_lower_rank_are_compared_in_the_dimensions_that_they_have():
    """Repeated and constant dimensions, and single precision, whose rounding is no dimension."""
    x, y = related()
    wide = torch.cat([x, x @ draw(6, 4, seed=5), torch.full((len(x), 2), 1e4, dtype=torch.float64)], dim=1)
    for states in (wide, wide.float()):
        assert PrincipalAxes.of(states).rank == 6
        torch.testing.assert_close(canonical_correlations(states, y), canonical_correlations(x, y), atol=1e-5, rtol=0)
    assert 0 < pwcca(wide, y) < 1


def test_states_that_do_not_vary_have_no_similarity():
    _, y = related()
    for measure in BY_NAME.values():
        assert math.isnan(measure(torch.full((300, 4), 0.1), y))
        assert math.isnan(measure(y, torch.full((300, 4), 0.1)))


def test_as_many_states_are_needed_of_both():
    x, y = related()
    with pytest.raises(ValueError, match="300 states of one set and 299 of the other"):
        cka(x, y[1:])


@pytest.mark.parametrize("name", MEASURES)
def test_moments_of_a_subset_give_what_its_states_give(name):
    """But for SVCCA, whose axes are those of all sentences: held against an analysis in these axes."""
    x, y = related()
    a, b = PrincipalAxes.of(x), PrincipalAxes.of(y)
    out = torch.randperm(300, generator=torch.Generator().manual_seed(3))[:60]
    stay = torch.tensor(sorted(set(range(300)) - set(out.tolist())))
    found = MEASURES[name].of(a, b, AxesPair(a, b).without(out))
    if name == "svcca":
        reduced = [side.basis[stay, : side.holding(0.99)] for side in (a, b)]
        assert found == pytest.approx(float(canonical_correlations(*reduced).mean()))
    else:
        assert found == pytest.approx(BY_NAME[name](x[stay], y[stay]), rel=1e-8)


@pytest.mark.parametrize("name", MEASURES)
def test_moments_of_shuffled_sentences_give_what_their_states_give(name):
    x, y = related()
    a, b = PrincipalAxes.of(x), PrincipalAxes.of(y)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3))
    assert MEASURES[name].of(a, b, AxesPair(a, b).shuffled(order)) == pytest.approx(
        BY_NAME[name](x, y[order]), rel=1e-8
    )


def test_an_axis_of_one_sentence_is_no_axis_without_it():
    x, y = related()
    odd = torch.cat([x, torch.zeros(300, 1, dtype=torch.float64)], dim=1)
    odd[5, 6] = 50.0
    a, b = PrincipalAxes.of(odd), PrincipalAxes.of(y)
    assert a.rank == 7
    stay = torch.arange(300) != 5
    found = MEASURES["pwcca"].of(a, b, AxesPair(a, b).without(torch.tensor([5])))
    assert found == pytest.approx(pwcca(x[stay], y[stay]), abs=1e-4)
