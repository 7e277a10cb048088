"""Departures: where tickets differ from the mask that they inherit, and how far two tickets depart alike.

Most of two tickets' overlap comes from theta_0: both keep what was large before any training. The inherited mask (the
magnitude mask of theta_0 at the same sparsity) is what each ticket would be if fine-tuning moved nothing, and a
ticket's departure is where it differs from that: weights kept though they were small, and weights pruned though they
were large. The overlap of two departures is what two runs did alike.

Its null is that the departures are independent given theta_0. Weights near the threshold flip easily, in any run, so
the null holds apart the cells in which weights are about equally likely to flip: the matrix, the direction of the
departure, and, where theta_0 is given, how near |theta_0| is to the threshold. Of the n weights of a cell two
independent departures of d_a and d_b weights share d_a d_b / n on average, with the variance of the hypergeometric
distribution, d_a d_b (n - d_a) (n - d_b) / (n^2 (n - 1)); both are summed over cells.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lnsub.analysis.overlap.counts import count_rows
from lnsub.tickets.combining import common_shapes
from lnsub.tickets.packed import count_bits
from lnsub.tickets.ticket import Ticket

BINS = 64
"""Bins of |theta_0| in each matrix and direction."""

_MIN_CELL = 16
"""Weights in the smallest bin: smaller ones would explain any overlap by themselves."""


@dataclass(frozen=True)
class Departures:
    """Counts of the departures of T tickets from one inherited mask, over the M parameters that it has.

    The axis of length 2 is the direction: kept though small, then pruned though large. P = T (T - 1) / 2 pairs are in
    the order of ``combinations``. A count is 0 where a ticket lacks the parameter.
    """

    tickets: tuple[Ticket, ...]
    """The T tickets."""
    inherited: Ticket
    """The inherited mask."""
    names: tuple[str, ...]
    """The M parameters, in name order."""
    weights: np.ndarray
    """(M,) int64: weights of each parameter."""
    kept: np.ndarray
    """(M,) int64: weights that the inherited mask keeps."""
    has: np.ndarray
    """(T, M) bool: which ticket has which parameter."""
    sizes: np.ndarray
    """(T, 2, M) int64: weights of each ticket's departure."""
    both: np.ndarray
    """(P, 2, M) int64: weights in both departures of a pair."""
    expected: np.ndarray
    """(P, 2, M) float64: what ``both`` is on average under the null."""
    variance: np.ndarray
    """(P, 2, M) float64: its variance under the null."""


def count_departures(
    tickets: Sequence[Ticket], inherited: Ticket, theta_0: Mapping[str, np.ndarray] | None = None, bins: int = BINS
) -> Departures:
    """Counts the departures of tickets from one inherited mask, and what two share by chance given theta_0.

    Args:
        tickets: at least one ticket of the inherited mask's base model, of the same sparsity and scope.
        inherited: the magnitude mask of theta_0.
        theta_0: the base model's weights by parameter name, float arrays of the parameters' shapes; each is asked for
            once. Without it, and for a parameter that it lacks, the null takes a matrix's weights as alike.
        bins: bins of |theta_0| in each matrix and direction; small matrices get fewer.

    Returns:
        The counts.

    Raises:
        UserError: different base models or shapes.
        ValueError: a theta_0 of another shape, or with NaN.
    """
    shapes = common_shapes([inherited, *tickets])
    names = tuple(inherited.masks)
    pairs = list(combinations(range(len(tickets)), 2))
    pair_at = {pair: p for p, pair in enumerate(pairs)}
    has = np.array([[name in t.masks for name in names] for t in tickets])
    sizes = np.zeros((len(tickets), 2, len(names)), np.int64)
    both = np.zeros((len(pairs), 2, len(names)), np.int64)
    expected, variance = np.zeros(both.shape), np.zeros(both.shape)
    for m, name in enumerate(names):
        holders = np.flatnonzero(has[:, m]).tolist()
        if not holders:
            continue
        of_pairs = [pair_at[pair] for pair in combinations(holders, 2)]
        base = inherited.masks[name]
        magnitude = None if theta_0 is None or name not in theta_0 else _magnitude(theta_0[name], name, shapes[name])
        for direction in (0, 1):
            rows = [_departed(tickets[t].masks[name], base, direction) for t in holders]
            counted = count_rows(rows)
            sizes[holders, direction, m] = counted.kept
            both[of_pairs, direction, m] = counted.both
            if magnitude is None:
                kept = count_bits(base)
                cells = np.array([kept if direction else math.prod(shapes[name]) - kept])
                departed = counted.kept[:, None]
            else:
                cells, departed = _cells(rows, base, magnitude, direction, bins)
            expected[of_pairs, direction, m], variance[of_pairs, direction, m] = _null(cells, departed)
    return Departures(
        tickets=tuple(tickets),
        inherited=inherited,
        names=names,
        weights=np.array([math.prod(shapes[name]) for name in names], np.int64),
        kept=np.array(list(inherited.kept_by_name.values()), np.int64),
        has=has,
        sizes=sizes,
        both=both,
        expected=expected,
        variance=variance,
    )


def _departed(mask: np.ndarray, base: np.ndarray, direction: int) -> np.ndarray:
    return base & ~mask if direction else mask & ~base


def _magnitude(theta: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if theta.shape != shape:
        raise ValueError(f"theta_0 of {name} has the shape {list(theta.shape)}, the tickets say {list(shape)}")
    magnitude = np.abs(theta.reshape(-1), dtype=np.float32)
    if np.isnan(magnitude.max()):
        raise ValueError(f"theta_0 of {name} holds NaN")
    return magnitude


def _cells(
    rows: Sequence[np.ndarray], base: np.ndarray, magnitude: np.ndarray, direction: int, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts, by bin of |theta_0|, the weights that can depart in one direction, (C,), and those that do, (T, C)."""
    # Distance from the threshold grows with the key: upwards among inherited weights, downwards among the others.
    key = magnitude if direction else -magnitude
    kept = np.unpackbits(base, count=magnitude.size, bitorder="little").view(np.bool_)
    ordered = np.sort(key[kept if direction else ~kept])
    # The chance to flip falls steeply with the distance, so bins are narrow near the threshold. Bins of equal size made
    # the null of independent flips too low by up to a half in simulations; these, cubic in rank, by less than 2 %.
    steps = np.arange(1, bins)
    ranks = np.maximum(ordered.size * (steps / bins) ** 3, _MIN_CELL * steps).astype(np.int64)
    edges = np.unique(ordered[ranks[ranks < ordered.size]])
    borders = np.searchsorted(ordered, edges, side="left")
    departed = np.empty((len(rows), edges.size + 1), np.int64)
    for row, target in zip(rows, departed, strict=True):
        positions = _positions(row)
        target[:] = np.bincount(np.searchsorted(edges, key[positions], side="right"), minlength=edges.size + 1)
    return np.diff(borders, prepend=0, append=ordered.size), departed


def _positions(packed: np.ndarray) -> np.ndarray:
    """Where the bits are 1. Departures are sparse, so only the bytes that hold any are unpacked."""
    octets = np.flatnonzero(packed)
    found = np.flatnonzero(np.unpackbits(packed[octets], bitorder="little").view(np.bool_))
    return octets[found >> 3] * 8 + (found & 7)


def _null(cells: np.ndarray, departed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of what each pair of T independent departures shares: (P,) each, from (C,) and (T, C)."""
    n = np.maximum(cells, 1).astype(np.float64)
    d = departed.astype(np.float64)
    rest = d * (n - d)
    upper = np.triu_indices(len(d), 1)
    expected = (d / n) @ d.T
    # A cell of one weight leaves nothing to chance; its `rest` is 0.
    variance = (rest / (n**2 * np.maximum(n - 1, 1))) @ rest.T
    return expected[upper], variance[upper]
