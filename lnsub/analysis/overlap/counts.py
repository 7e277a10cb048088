"""Counts of kept weights on packed bits: by matrix, for each ticket and each pair of tickets, in one pass.

All measures of overlap are sums over the matrices of these counts.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lnsub.common.errors import UserError
from lnsub.tickets.combining import common_shapes
from lnsub.tickets.ticket import Ticket

BLOCK = 64 * 1024
"""Bytes of one ticket's mask that are processed together: the blocks of ten tickets fit into the second-level cache."""


@dataclass(frozen=True)
class BitCounts:
    """Bits set in T packed rows of one matrix, and in their P = T (T - 1) / 2 pairs in the order of ``combinations``.

    ``kept`` is (T,) and ``both`` (P,), int64; ``every`` and ``some`` count the bits set in all rows and in any row.
    """

    kept: np.ndarray
    both: np.ndarray
    every: int
    some: int


@dataclass(frozen=True)
class Counts:
    """What T tickets keep of the M parameters that any of them has, alone and in P = T (T - 1) / 2 pairs."""

    tickets: tuple[Ticket, ...]
    """The T tickets."""
    names: tuple[str, ...]
    """The M parameters, in name order."""
    weights: np.ndarray
    """(M,) int64: weights of each parameter."""
    has: np.ndarray
    """(T, M) bool: which ticket has which parameter."""
    kept: np.ndarray
    """(T, M) int64: weights that each ticket keeps; 0 where it lacks the parameter."""
    both: np.ndarray
    """(P, M) int64: weights that both tickets of a pair keep, in the order of :attr:`pairs`."""
    every: np.ndarray
    """(M,) int64: weights that all tickets keep; 0 where a ticket lacks the parameter."""
    some: np.ndarray
    """(M,) int64: weights that at least one ticket keeps; 0 where a ticket lacks the parameter."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The P pairs of positions in :attr:`tickets`: (0, 1), (0, 2), ..., (1, 2), ..."""
        return list(combinations(range(len(self.tickets)), 2))

    @property
    def shared(self) -> np.ndarray:
        """(P, M) bool: the parameters that both tickets of each pair have."""
        first, second = np.array(self.pairs).T
        return self.has[first] & self.has[second]


def count(tickets: Sequence[Ticket], over: Collection[str] | None = None) -> Counts:
    """Counts what tickets keep, alone and in pairs.

    Args:
        tickets: two or more tickets of one base model. Their parameters may differ: a token classifier, for example,
            has no pooler. A pair is counted over the parameters that both have.
        over: the parameters that count; None: all.

    Returns:
        The counts by matrix.

    Raises:
        UserError: fewer than two tickets, or two that come from different base models, differ in the shape of a
            parameter, or have no parameter in common.
    """
    if len(tickets) < 2:
        raise UserError(f"overlap compares tickets, so it takes at least two; there is {len(tickets) or 'none'} here")
    shapes = {name: shape for name, shape in common_shapes(tickets).items() if over is None or name in over}
    pairs = list(combinations(range(len(tickets)), 2))
    pair_at = {pair: p for p, pair in enumerate(pairs)}
    size = len(tickets), len(shapes)
    kept, both = np.zeros(size, np.int64), np.zeros((len(pairs), len(shapes)), np.int64)
    every, some = np.zeros(len(shapes), np.int64), np.zeros(len(shapes), np.int64)
    has = np.array([[name in t.masks for name in shapes] for t in tickets])
    for m, name in enumerate(shapes):
        holders = np.flatnonzero(has[:, m]).tolist()
        counted = count_rows([tickets[t].masks[name] for t in holders])
        kept[holders, m] = counted.kept
        both[[pair_at[pair] for pair in combinations(holders, 2)], m] = counted.both
        if len(holders) == len(tickets):
            every[m], some[m] = counted.every, counted.some
    weights = np.array([math.prod(shape) for shape in shapes.values()], dtype=np.int64)
    counts = Counts(tuple(tickets), tuple(shapes), weights, has, kept, both, every, some)
    for (i, j), shared in zip(pairs, counts.shared, strict=True):
        if not shared.any():
            raise UserError(f"tickets {tickets[i].where} and {tickets[j].where} have no parameter in common")
    return counts


def count_rows(rows: Sequence[np.ndarray], block_bytes: int = BLOCK) -> BitCounts:
    """Counts the bits set in each of T packed rows of one length, in each pair of them, in all and in any.

    Args:
        rows: uint8 arrays of the same length.
        block_bytes: how much of each row is processed together; a multiple of 8.

    Returns:
        The counts.
    """
    tickets, size = len(rows), rows[0].size
    words = min(block_bytes, size + 7) // 8
    block = np.zeros((tickets, words), dtype=np.uint64)
    targets = block.view(np.uint8)
    joined = np.empty_like(block)
    ones = np.empty(block.shape, dtype=np.uint8)
    kept = np.zeros(tickets, dtype=np.int64)
    both = np.zeros(tickets * (tickets - 1) // 2, dtype=np.int64)
    every = some = 0

    def bits(values: np.ndarray) -> np.ndarray:
        counted = np.bitwise_count(values, out=ones[: len(values), : values.shape[1]])
        # int32 adds faster than int64, and a block holds far fewer than 2**31 bits.
        return counted.sum(axis=1, dtype=np.int32)

    for start in range(0, size, words * 8):
        stop = min(start + words * 8, size)
        used = -(-(stop - start) // 8)
        # Copying makes words of any length and alignment of bytes; the copy stays in the cache for all pairs.
        block[:, used - 1] = 0
        for row, target in zip(rows, targets, strict=True):
            target[: stop - start] = row[start:stop]
        part, scratch = block[:, :used], joined[:, :used]
        kept += bits(part)
        every += int(bits(np.bitwise_and.reduce(part, axis=0, keepdims=True))[0])
        some += int(bits(np.bitwise_or.reduce(part, axis=0, keepdims=True))[0])
        first = 0
        for i in range(tickets - 1):
            others = tickets - 1 - i
            np.bitwise_and(part[i + 1 :], part[i], out=scratch[:others])
            both[first : first + others] += bits(scratch[:others])
            first += others
    return BitCounts(kept, both, every, some)
