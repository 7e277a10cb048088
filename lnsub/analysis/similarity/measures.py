"""Measures of the similarity of two sets of states of the same sentences.

All take states [n, hidden], which need not have as many dimensions, or, where many subsets of the sentences are
measured, their principal axes and moments (:mod:`lnsub.analysis.similarity.axes`). None changes if either set of
states is moved or scaled, or y rotated, and only PWCCA if x is. Canonical correlations themselves do not change under
any invertible linear map; CKA also looks at how much sentences differ along a direction, so that the directions of
large variance decide.

Canonical correlations of n sentences in d dimensions are near 1 whatever the states are, unless n is far above d, and
are 1 for n <= d + 1: compare them with the null.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lnsub.analysis.similarity.axes import AxesPair, Moments, PrincipalAxes

KEPT = 0.99
"""The share of the variance that SVCCA keeps."""


def cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment, unbiased.

    Kornblith et al. (2019), "Similarity of Neural Network Representations Revisited"
    (https://arxiv.org/abs/1905.00414), with the unbiased estimator of the Hilbert-Schmidt independence criterion (HSIC)
    of Song et al. (2012, https://jmlr.org/papers/v13/song12a.html), whose use here Murphy et al. (2024,
    https://arxiv.org/abs/2405.01012) recommend: without it, unrelated states of few sentences look similar.

    Args:
        x: states: float [n, hidden], n of at least 4.
        y: states of the same sentences in the same order: float [n, hidden of its own].

    Returns:
        1 for states that are equal up to rotation and scale, 0 on average for independent ones, so that it may be
        below 0; NaN where either does not vary.
    """
    return _measured(_cka, x, y)


def biased_cka(x: Tensor, y: Tensor) -> float:
    """Linear centred kernel alignment as Kornblith et al. (2019) estimate it: above 0 even for independent states.

    Args:
        x: see :func:`cka`.
        y: likewise.

    Returns:
        From 0 to 1; NaN where either does not vary.
    """
    return _measured(_biased_cka, x, y)


def svcca(x: Tensor, y: Tensor, kept: float = KEPT) -> float:
    """Singular vector canonical correlation analysis: the mean canonical correlation of the principal axes kept.

    Raghu et al. (2017), "SVCCA: Singular Vector Canonical Correlation Analysis for Deep Learning Dynamics and
    Interpretability" (https://arxiv.org/abs/1706.05806).

    Args:
        x: see :func:`cka`; of each, only the fewest principal axes count that hold ``kept`` of its variance.
        y: likewise.
        kept: a share in (0, 1].

    Returns:
        From 0 to 1, the mean over as many directions as the smaller set of axes has; NaN where either does not vary.
    """
    return _measured(lambda a, b, sums: _svcca(a, b, sums, kept), x, y)


def pwcca(x: Tensor, y: Tensor) -> float:
    """Projection-weighted canonical correlation analysis: correlations, weighted by how much of x they account for.

    Morcos et al. (2018), "Insights on representational similarity in neural networks with canonical correlation"
    (https://arxiv.org/abs/1806.05759). The weight of a canonical direction of x is the sum of the absolute inner
    products of its variate with x's dimensions. So the measure is not symmetric, and it depends on the dimensions that
    x is given in: a rotation of x changes the weights. An invertible map of y changes nothing.

    Args:
        x: see :func:`cka`; its directions are weighted. States that lie in fewer dimensions than they have are reduced
            to those, see :meth:`lnsub.analysis.similarity.axes.PrincipalAxes.of`.
        y: likewise, but not weighted.

    Returns:
        From 0 to 1; NaN where either does not vary.
    """
    return _measured(_pwcca, x, y)


def canonical_correlations(x: Tensor, y: Tensor) -> Tensor:
    """The canonical correlations of two sets of states, descending: float64 [smaller rank].

    Args:
        x: see :func:`cka`.
        y: likewise.
    """
    a, b = PrincipalAxes.of(x), PrincipalAxes.of(y)
    return _correlations(AxesPair(a, b).whole.whitened(a.rank, b.rank)).flip(0)


def _measured(measure: "Of", x: Tensor, y: Tensor) -> float:
    if len(x) != len(y):
        raise ValueError(f"there are {len(x)} states of one set and {len(y)} of the other")
    a, b = PrincipalAxes.of(x), PrincipalAxes.of(y)
    return measure(a, b, AxesPair(a, b).whole) if a.rank and b.rank else nan


def _hsic(squares: Tensor, lengths_a: Tensor, lengths_b: Tensor) -> Tensor:
    """The unbiased estimate of HSIC, times n (n - 3), of centred states.

    Song et al.'s tr(K L) + 1'K1 1'L1 / ((n-1) (n-2)) - 2 1'K L1 / (n-2) for kernel matrices K and L without their
    diagonals k and l. The rows of the whole matrices sum to 0, so that those of K sum to -k.

    Args:
        squares: the sum of squares of the cross moments, which is the trace of the product of the whole matrices.
        lengths_a: k: [n].
        lengths_b: l: [n].
    """
    n, both = len(lengths_a), lengths_a @ lengths_b
    return squares - both + lengths_a.sum() * lengths_b.sum() / ((n - 1) * (n - 2)) - 2 * both / (n - 2)


def _squares(a: PrincipalAxes, b: PrincipalAxes, sums: Tensor) -> Tensor:
    return ((a.scale[:, None] * sums * b.scale) ** 2).sum()


def _cka(x: PrincipalAxes, y: PrincipalAxes, sums: Moments) -> float:
    both = _hsic(_squares(x, y, sums.xy), sums.length_x, sums.length_y)
    of_x = _hsic(_squares(x, x, sums.xx), sums.length_x, sums.length_x)
    of_y = _hsic(_squares(y, y, sums.yy), sums.length_y, sums.length_y)
    return min(1.0, float(both / (of_x * of_y).sqrt())) if of_x > 0 and of_y > 0 else nan


def _biased_cka(x: PrincipalAxes, y: PrincipalAxes, sums: Moments) -> float:
    of_x, of_y = _squares(x, x, sums.xx), _squares(y, y, sums.yy)
    return min(1.0, float(_squares(x, y, sums.xy) / (of_x * of_y).sqrt()))


def _correlations(whitened: Tensor) -> Tensor:
    """The singular values, ascending."""
    # By way of the smaller square, which takes a third of the time; what is lost lies below 1e-7.
    rows, columns = whitened.shape
    square = whitened @ whitened.T if rows <= columns else whitened.T @ whitened
    return torch.linalg.eigvalsh(square).clamp(0.0, 1.0).sqrt()


def _svcca(x: PrincipalAxes, y: PrincipalAxes, sums: Moments, kept: float = KEPT) -> float:
    return float(_correlations(sums.whitened(x.holding(kept), y.holding(kept))).mean())


def _pwcca(x: PrincipalAxes, y: PrincipalAxes, sums: Moments) -> float:
    whitened = sums.whitened(x.rank, y.rank)
    squared, directions = torch.linalg.eigh(whitened @ whitened.T)
    several = min(whitened.shape)
    found, directions = squared[-several:].clamp(0.0, 1.0).sqrt(), directions[:, -several:]
    # A variate's inner products with x's dimensions.
    weights = (directions.T @ (sums.factor(x.rank).T * x.scale) @ x.axes).abs().sum(dim=1)
    return min(1.0, float((weights @ found) / weights.sum()))


Of = Callable[[PrincipalAxes, PrincipalAxes, Moments], float]
"""A measure as a function of the principal axes of both sets of states and of the moments of some of the sentences."""


@dataclass(frozen=True)
class Measure:
    """A measure by name.

    Attributes:
        title: for people.
        of: computes it from states that vary.
        axes: how many axes of a set of states canonical correlations are taken over; None where there are none.
    """

    title: str
    of: Of
    axes: Callable[[PrincipalAxes], int] | None = None


MEASURES: dict[str, Measure] = {
    "cka": Measure("CKA", _cka),
    "svcca": Measure("SVCCA", _svcca, lambda states: states.holding(KEPT)),
    "pwcca": Measure("PWCCA", _pwcca, lambda states: states.rank),
    "biased_cka": Measure("CKA, biased", _biased_cka),
}
"""The measures by name."""
