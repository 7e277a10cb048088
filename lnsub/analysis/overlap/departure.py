"""Departures: where tickets differ from the mask that they inherit, and how far two tickets depart alike.

Most of two tickets' overlap comes from theta_0: both keep what was large before any training. The inherited mask (the
magnitude mask of theta_0 at the same sparsity) is what each ticket would be if fine-tuning moved nothing, and a
ticket's departure is where it differs from that: weights kept though they were small, and weights pruned though they
were large. The overlap of two departures is what two runs did alike.

Its null is that the departures are independent given theta_0. Weights near the threshold flip easily, in any run, so
the null holds apart the cells in which weights are about equally likely to flip: the matrix, the direction of the
departure, and, where theta_0 is given, how near |theta_0| is to the threshold. Of the n weights of a cell two
independent departures of d_a and d_b weights share d_a d_b / n on average, summed over cells. With the null ``raked``
rows and columns have scales of their own besides (:mod:`lnsub.analysis.overlap.raking`).

The null is a centre. How far independent departures lie from it by the chance of millions of weights says nothing of
how much runs differ, and is not given: an interval is over runs (:mod:`lnsub.analysis.overlap.neutrality`).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from lnsub.analysis.overlap.counts import count_rows
from lnsub.analysis.overlap.raking import expected_raked
from lnsub.tickets.combining import common_shapes
from lnsub.tickets.packed import count_bits
from lnsub.tickets.ticket import Ticket

BINS = 64
"""Bins of |theta_0| in each matrix and direction."""

Null = Literal["magnitude", "raked"]
"""What flips depend on by themselves: |theta_0|, or |theta_0| and the scales of rows and columns."""

NULLS: tuple[Null, ...] = get_args(Null)
"""The nulls, the default first."""

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
    zeros_kept: np.ndarray
    """(M,) int64: zeros of theta_0 that the inherited mask keeps. Where there are any, ties among zeros decided what it
    keeps, and what departs from it."""
    expected: np.ndarray
    """(P, 2, M) float64: what ``both`` is on average under the null."""


def count_departures(
    tickets: Sequence[Ticket],
    inherited: Ticket,
    theta_0: Mapping[str, np.ndarray] | None = None,
    bins: int = BINS,
    null: Null = "magnitude",
    over: Collection[str] | None = None,
) -> Departures:
    """Counts the departures of tickets from one inherited mask, and what two share by chance given theta_0.

    Args:
        tickets: at least one ticket of the inherited mask's base model, of the same sparsity and scope.
        inherited: the magnitude mask of theta_0.
        theta_0: the base model's weights by parameter name, float arrays of the parameters' shapes; each is asked for
            once. Without it, and for a parameter that it lacks, the null takes a matrix's weights as alike.
        bins: bins of |theta_0| in each matrix and direction; small matrices get fewer.
        null: ``raked`` fits each ticket's flips to rows and columns too, which takes about 4 s a ticket for every
            ten million weights; units, and parameters that theta_0 lacks, have the null ``magnitude``.
        over: the parameters that count; None: all that the inherited mask has.

    Returns:
        The counts.

    Raises:
        UserError: different base models or shapes.
        ValueError: a theta_0 of another shape, or with NaN.
    """
    shapes = common_shapes([inherited, *tickets])
    names = tuple(name for name in inherited.masks if over is None or name in over)
    pairs = list(combinations(range(len(tickets)), 2))
    pair_at = {pair: p for p, pair in enumerate(pairs)}
    has = np.array([[name in t.masks for name in names] for t in tickets])
    sizes = np.zeros((len(tickets), 2, len(names)), np.int64)
    both = np.zeros((len(pairs), 2, len(names)), np.int64)
    expected, zeros_kept = np.zeros(both.shape), np.zeros(len(names), np.int64)
    for m, name in enumerate(names):
        holders = np.flatnonzero(has[:, m]).tolist()
        if not holders:
            continue
        of_pairs = [pair_at[pair] for pair in combinations(holders, 2)]
        base = inherited.masks[name]
        magnitude = None if theta_0 is None or name not in theta_0 else _magnitude(theta_0[name], name, shapes[name])
        if magnitude is not None:
            zeros_kept[m] = np.count_nonzero(_inside(base, magnitude.size, 1) & (magnitude == 0))
        for direction in (0, 1):
            rows = [_departed(tickets[t].masks[name], base, direction) for t in holders]
            counted = count_rows(rows)
            sizes[holders, direction, m] = counted.kept
            both[of_pairs, direction, m] = counted.both
            if magnitude is None:
                kept = count_bits(base)
                cells = np.array([kept if direction else math.prod(shapes[name]) - kept])
                found = _expected(cells, counted.kept[:, None])
            elif null == "raked" and len(shapes[name]) > 1:
                found = _raked(rows, base, magnitude, direction, bins, shapes[name][-1])
            else:
                found = _expected(*_cells(rows, base, magnitude, direction, bins))
            expected[of_pairs, direction, m] = found
    return Departures(
        tickets=tuple(tickets),
        inherited=inherited,
        names=names,
        weights=np.array([math.prod(shapes[name]) for name in names], np.int64),
        kept=np.array([inherited.kept_by_name[name] for name in names], np.int64),
        has=has,
        sizes=sizes,
        both=both,
        zeros_kept=zeros_kept,
        expected=expected,
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


def _edges(ordered: np.ndarray, bins: int) -> np.ndarray:
    """The lower ends of all bins but the first, from the sorted distances of the weights that can depart."""
    # The chance to flip falls steeply with the distance, so bins are narrow near the threshold. Bins of equal size made
    # the null of independent flips too low by up to a half in simulations; these, cubic in rank, by less than 2 %.
    steps = np.arange(1, bins)
    ranks = np.maximum(ordered.size * (steps / bins) ** 3, _MIN_CELL * steps).astype(np.int64)
    return np.unique(ordered[ranks[ranks < ordered.size]])


def _inside(base: np.ndarray, size: int, direction: int) -> np.ndarray:
    """Which of a matrix's weights can depart in one direction: (size,) bool."""
    kept = np.unpackbits(base, count=size, bitorder="little").view(np.bool_)
    return kept if direction else ~kept


def _cells(
    rows: Sequence[np.ndarray], base: np.ndarray, magnitude: np.ndarray, direction: int, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Counts, by bin of |theta_0|, the weights that can depart in one direction, (C,), and those that do, (T, C)."""
    # Distance from the threshold grows with the key: upwards among inherited weights, downwards among the others.
    key = magnitude if direction else -magnitude
    ordered = np.sort(key[_inside(base, magnitude.size, direction)])
    edges = _edges(ordered, bins)
    borders = np.searchsorted(ordered, edges, side="left")
    departed = np.empty((len(rows), edges.size + 1), np.int64)
    for row, target in zip(rows, departed, strict=True):
        positions = _positions(row)
        target[:] = np.bincount(np.searchsorted(edges, key[positions], side="right"), minlength=edges.size + 1)
    return np.diff(borders, prepend=0, append=ordered.size), departed


def _raked(
    rows: Sequence[np.ndarray], base: np.ndarray, magnitude: np.ndarray, direction: int, bins: int, columns: int
) -> np.ndarray:
    """What each pair of T departures in one direction shares on average under the raked null: (P,)."""
    at = np.flatnonzero(_inside(base, magnitude.size, direction))
    key = magnitude[at] if direction else -magnitude[at]
    bin_of = np.searchsorted(_edges(np.sort(key), bins), key, side="right")
    departed = [np.unpackbits(row, count=magnitude.size, bitorder="little").view(np.bool_)[at] for row in rows]
    return expected_raked(departed, bin_of, at, columns)


def _positions(packed: np.ndarray) -> np.ndarray:
    """Where the bits are 1. Departures are sparse, so only the bytes that hold any are unpacked."""
    octets = np.flatnonzero(packed)
    found = np.flatnonzero(np.unpackbits(packed[octets], bitorder="little").view(np.bool_))
    return octets[found >> 3] * 8 + (found & 7)


def _expected(cells: np.ndarray, departed: np.ndarray) -> np.ndarray:
    """What each pair of T independent departures shares on average: (P,), from (C,) and (T, C)."""
    d = departed.astype(np.float64)
    return np.asarray(((d / np.maximum(cells, 1)) @ d.T)[np.triu_indices(len(d), 1)])
