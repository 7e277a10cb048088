"""States in their principal axes, and the moments of two languages' states that every measure is a function of.

A singular value decomposition of each language's centred states, X = U S V', is made once. Every measure, of all
sentences, of some of them or of shuffled ones, then needs no more than three matrices of the size of the hidden states:
the moments of the rows of both U. That is what makes hundreds of resamples affordable.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrincipalAxes:
    """States, centred, as ``basis * scale @ axes``; what is no more than rounding noise is left out.

    Attributes:
        basis: U: float64 [n, rank], orthonormal columns whose sums are 0.
        scale: S: float64 [rank], descending, above 0.
        axes: V': float64 [rank, hidden], orthonormal rows.
    """

    basis: Tensor
    scale: Tensor
    axes: Tensor

    @classmethod
    def of(cls, states: Tensor) -> "PrincipalAxes":
        """Decomposes states.

        Args:
            states: [n, hidden], of any float dtype; computed in float64. Axes are kept along which the states vary more
                than their own rounding does: a matrix of independent errors of size e has singular values up to about
                e (sqrt(n) + sqrt(hidden)).

        Returns:
            The axes; none, a rank of 0, of states that are all the same.
        """
        x = states.double()
        basis, scale, axes = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)
        error = torch.finfo(states.dtype).eps * x.abs().max()
        rank = int((scale > error * (x.shape[0] ** 0.5 + x.shape[1] ** 0.5)).sum())
        return cls(basis[:, :rank], scale[:rank], axes[:rank])

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.scale)

    def holding(self, share: float) -> int:
        """How many of the first axes hold a share of the variance, in (0, 1]."""
        held = torch.cumsum(self.scale**2, dim=0)
        # Rounding may leave the sum of all just below 1.
        return min(self.rank, int((held < share * held[-1] * (1 - 1e-12)).sum()) + 1) if self.rank else 0


@dataclass(frozen=True)
class Moments:
    """Sums over some sentences, whose states are centred anew, in the principal axes of all.

    Attributes:
        xx: sums of products of the rows of x's basis: float64 [rank of x, rank of x].
        yy: likewise of y's.
        xy: of x's with y's: [rank of x, rank of y].
        length_x: squared lengths of the states of x: float64 [sentences].
        length_y: likewise of y.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    length_x: Tensor
    length_y: Tensor

    def factor(self, axes: int) -> Tensor:
        """The lower Cholesky factor of the first axes' part of ``xx``; there are more sentences than axes."""
        return _factor(self.xx[:axes, :axes])

    def whitened(self, axes_x: int, axes_y: int) -> Tensor:
        """The cross moments of directions of variance 1, whose singular values are the canonical correlations.

        Args:
            axes_x: how many of x's first axes to take, fewer than there are sentences.
            axes_y: likewise of y's.

        Returns:
            float64 [axes_x, axes_y].
        """
        half = torch.linalg.solve_triangular(self.factor(axes_x), self.xy[:axes_x, :axes_y], upper=False)
        return torch.linalg.solve_triangular(_factor(self.yy[:axes_y, :axes_y]), half.T, upper=False).T


class AxesPair:
    """The principal axes of two languages' states of the same sentences.

    Args:
        x: one language.
        y: the other; row i translates row i.

    Attributes:
        x: as given.
        y: as given.
        whole: the moments of all sentences.
    """

    def __init__(self, x: PrincipalAxes, y: PrincipalAxes) -> None:
        self.x, self.y = x, y
        cross = x.basis.T @ y.basis
        self.whole = Moments(_eye(x), _eye(y), cross, _lengths(x, x.basis), _lengths(y, y.basis))

    def without(self, rows: Tensor) -> Moments:
        """The moments of all sentences but some, for which only those few are gone through.

        Args:
            rows: the numbers of those left out, int64, each once; at least one sentence stays.
        """
        u, v = self.x.basis[rows], self.y.basis[rows]
        stay = torch.ones(len(self.x.basis), dtype=torch.bool, device=rows.device)
        stay[rows] = False
        # The columns of a basis sum to 0, so that the sum of those that stay is minus that of the others.
        sum_u, sum_v = -u.sum(dim=0), -v.sum(dim=0)
        n, whole = len(stay) - len(rows), self.whole
        return Moments(
            whole.xx - u.T @ u - torch.outer(sum_u, sum_u) / n,
            whole.yy - v.T @ v - torch.outer(sum_v, sum_v) / n,
            whole.xy - u.T @ v - torch.outer(sum_u, sum_v) / n,
            _lengths(self.x, self.x.basis[stay] - sum_u / n),
            _lengths(self.y, self.y.basis[stay] - sum_v / n),
        )

    def shuffled(self, order: Tensor) -> Moments:
        """The moments where row ``order[i]`` of y is taken for the translation of row i of x."""
        return replace(self.whole, xy=self.x.basis.T @ self.y.basis[order], length_y=self.whole.length_y[order])


def _factor(of_basis: Tensor) -> Tensor:
    # An axis along which one sentence alone differs from all others has no variance where that one is left out. With
    # this much added it correlates with nothing, rather than there being no factor.
    return torch.linalg.cholesky(of_basis + torch.diag(torch.full_like(of_basis[0], 1e-12)))


def _eye(side: PrincipalAxes) -> Tensor:
    return torch.diag(torch.ones_like(side.scale))


def _lengths(side: PrincipalAxes, basis: Tensor) -> Tensor:
    return (basis**2) @ side.scale**2
