"""What :mod:`lnsub.pruning.selection` does to the weights: ranking keys, counted and compared where the weights are.

A weight's key is an integer: 0 if it is pruned, else 1 + the bit pattern of its score's absolute value, which grows
with that value. Keys are made in passing and never kept.

Two implementations of one thing, since what is fast differs. On the CPU: numpy, on blocks that fit the second-level
cache; its comparisons and its search for the few weights in a range are 5 to 15 times as fast as torch's. Elsewhere:
torch, on as few and as large pieces as memory allows, since there every call costs and every answer that the CPU waits
for costs more.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from lnsub.common.threads import Workers
from lnsub.common.torch_internals import copy_all

INTEGER = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
"""The dtypes that scores can have, each with the integers that hold its bit patterns."""

_NUMPY: dict[torch.dtype, np.dtype] = {
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
}

BLOCK = 1 << 18
"""Weights that the CPU looks at together: with the buffers, about the size of a second-level cache."""
CHUNK = 1 << 23
"""Weights that another device looks at together: 32 MB of keys, and 11 chunks for mBERT."""


@dataclass(frozen=True)
class Part:
    """Consecutive weights, in row-major order, of one parameter."""

    score: Tensor
    kept: Tensor
    result: Tensor
    """Where the new mask goes; one-dimensional."""

    @property
    def numel(self) -> int:
        """How many weights these are."""
        return self.score.numel()


class Chunk(ABC):
    """Consecutive weights that one worker goes through.

    Attributes:
        parts: the weights, in order.
        numel: how many they are.

    Args:
        parts: the weights, in order; at least one.
        dtype: in which scores are compared, a key of :data:`INTEGER`: the same for all that are ranked together.
    """

    def __init__(self, parts: Sequence[Part], dtype: torch.dtype) -> None:
        self.parts = parts
        self._dtype = dtype
        self._integer = INTEGER[dtype]
        self.numel = sum(part.numel for part in parts)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.parts[0].score.device

    @property
    def top(self) -> int:
        """A number above all keys: even infinity's would be less."""
        return torch.iinfo(self._integer).max

    def sample(self, stride: int) -> Tensor:
        """Returns the keys of every ``stride``-th weight of each part."""
        patterns = torch.cat([part.score.reshape(-1)[::stride].to(self._dtype) for part in self.parts])
        kept = torch.cat([part.kept.reshape(-1)[::stride] for part in self.parts])
        return patterns.view(self._integer).bitwise_and_(self.top).add_(1).mul_(kept)

    @abstractmethod
    def kept(self) -> Tensor:
        """Counts the weights that are kept so far; int64, without dimensions, as are all counts."""

    @abstractmethod
    def between(self, low: int, high: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Goes through the keys by pieces, with 0 < low < high.

        Yields:
            How many keys of the piece are below ``low``, and those with low <= key < high, less ``low``.
        """

    @abstractmethod
    def write(self, threshold: int, count_ties: bool) -> Tensor:
        """Makes the new mask keep exactly the weights whose key is above ``threshold``, which is above 0.

        Returns:
            For each part, how many keys equal ``threshold``; int64. Zeros unless they are to be counted.
        """

    @abstractmethod
    def keep_ties(self, threshold: int, first: Mapping[int, int]) -> None:
        """Makes the new mask keep more: for each part of ``first``, the ties with ``threshold`` from that one on."""


class _HostStrip(Chunk):
    """Weights in the CPU's memory."""

    def kept(self) -> Tensor:
        return torch.tensor(sum(int(np.count_nonzero(part.kept.numpy())) for part in self.parts))

    def between(self, low: int, high: int) -> Iterator[tuple[Tensor, Tensor]]:
        low, high = low - 1, high - 1  # as magnitudes, which lack the 1
        beyond = self._buffer(np.dtype(bool))
        for _, magnitudes, kept, inside in self._blocks(self.parts):
            np.greater_equal(magnitudes, low, out=inside)
            np.logical_and(inside, kept, out=inside)
            below = len(magnitudes) - int(np.count_nonzero(inside))
            np.less(magnitudes, high, out=beyond[: len(inside)])
            np.logical_and(inside, beyond[: len(inside)], out=inside)
            found = magnitudes[np.flatnonzero(inside)]
            found -= low
            yield torch.tensor(below), torch.from_numpy(found)

    def write(self, threshold: int, count_ties: bool) -> Tensor:
        ties = [0] * len(self.parts)
        for p, (part, magnitudes, kept, tied) in enumerate(self._blocks(self.parts)):
            result = part.result.numpy()
            np.greater(magnitudes, threshold - 1, out=result)
            np.logical_and(result, kept, out=result)
            if count_ties:
                np.equal(magnitudes, threshold - 1, out=tied)
                np.logical_and(tied, kept, out=tied)
                ties[p] = int(np.count_nonzero(tied))
        return torch.tensor(ties)

    def keep_ties(self, threshold: int, first: Mapping[int, int]) -> None:
        blocks = self._blocks([self.parts[p] for p in first])
        for (part, magnitudes, kept, tied), kept_ties in zip(blocks, first.values(), strict=True):
            np.equal(magnitudes, threshold - 1, out=tied)
            np.logical_and(tied, kept, out=tied)
            part.result.numpy()[np.flatnonzero(tied)[kept_ties:]] = True

    def _blocks(self, parts: Iterable[Part]) -> Iterator[tuple[Part, np.ndarray, np.ndarray, np.ndarray]]:
        """For each part, one-dimensional: its bit patterns without the sign, what is kept, and a buffer of bools."""
        integer = _NUMPY[self._integer]
        magnitudes, bits = self._buffer(integer), self._buffer(np.dtype(bool))
        for part in parts:
            n = part.numel
            patterns = part.score.reshape(-1).to(self._dtype).view(self._integer).numpy()
            np.bitwise_and(patterns, integer.type(self.top), out=magnitudes[:n])
            yield part, magnitudes[:n], part.kept.reshape(-1).numpy(), bits[:n]

    def _buffer(self, dtype: np.dtype) -> np.ndarray:
        """A buffer for any part: the allocator would not reuse the memory of one temporary for the next."""
        return np.empty(max(part.numel for part in self.parts), dtype)


class _DeviceStrip(Chunk):
    """Weights in another device's memory, taken as one piece whatever number of parameters they belong to."""

    def kept(self) -> Tensor:
        return self._kept().sum()

    def between(self, low: int, high: int) -> Iterator[tuple[Tensor, Tensor]]:
        low, high = low - 1, high - 1  # as magnitudes, which lack the 1
        magnitudes = self._magnitudes()
        inside = (magnitudes >= low).logical_and_(self._kept())
        below = self.numel - inside.sum()
        inside.logical_and_(magnitudes < high)
        yield below, magnitudes[inside].sub_(low)  # waits for the device: how many there are

    def write(self, threshold: int, count_ties: bool) -> Tensor:
        magnitudes, kept = self._magnitudes(), self._kept()
        self._put((magnitudes > threshold - 1).logical_and_(kept))
        if not count_ties:
            return torch.zeros(len(self.parts), dtype=torch.int64, device=self.device)
        counts = (magnitudes == threshold - 1).logical_and_(kept).cumsum(0)
        # Up to the end of each part, less up to the end of the one before: no launch for each part.
        return torch.stack([counts[end - 1] for end in accumulate(self._sizes)]).diff(prepend=counts.new_zeros(1))

    def keep_ties(self, threshold: int, first: Mapping[int, int]) -> None:
        magnitudes, kept = self._magnitudes(), self._kept()
        tied = (magnitudes == threshold - 1).logical_and_(kept)
        counts = tied.cumsum(0)
        sizes = torch.tensor(self._sizes, device=self.device)
        starts = sizes.cumsum(0) - sizes
        earlier = counts[starts] - tied[starts].long()
        none_spared = self.numel  # more than there can be ties
        pruned = torch.tensor([first.get(p, none_spared) for p in range(len(self.parts))], device=self.device)
        limit = torch.repeat_interleave(earlier + pruned, sizes, output_size=self.numel)
        above = (magnitudes > threshold - 1).logical_and_(kept)
        self._put(above.logical_or_(tied.logical_and_(counts > limit)))

    @property
    def _sizes(self) -> list[int]:
        return [part.numel for part in self.parts]

    def _magnitudes(self) -> Tensor:
        joined = torch.cat([part.score.reshape(-1).to(self._dtype) for part in self.parts])
        return joined.view(self._integer).bitwise_and_(self.top)

    def _kept(self) -> Tensor:
        return torch.cat([part.kept.reshape(-1) for part in self.parts])

    def _put(self, bits: Tensor) -> None:
        copy_all([part.result for part in self.parts], bits.split(self._sizes))


def cut(
    parameters: Iterable[tuple[Tensor, Tensor, Tensor]], dtype: torch.dtype, threads: Workers, *, host: bool
) -> list[Chunk]:
    """Cuts parameters that are ranked together into chunks.

    Args:
        parameters: score, mask and new mask of each; the new masks are contiguous.
        dtype: in which scores are compared.
        threads: who will go through them.
        host: the weights are in the CPU's memory.

    Returns:
        Strips that make up the parameters, in order. They are views; nothing is copied.
    """
    most = BLOCK if host else CHUNK
    parts = [part for score, kept, result in parameters for part in _parts(score, kept, result, most)]
    if host:
        return [_HostStrip(chunk, dtype) for chunk in threads.chunks(parts)]
    bundles: list[list[Part]] = [[]]
    room = CHUNK
    for part in parts:
        if part.numel > room and bundles[-1]:
            bundles.append([])
            room = CHUNK
        bundles[-1].append(part)
        room -= part.numel
    return [_DeviceStrip(bundle, dtype) for bundle in bundles if bundle]


def _parts(score: Tensor, kept: Tensor, result: Tensor, most: int) -> list[Part]:
    """Cuts one parameter: into flat views or, where its strides allow none, whole rows."""
    if not len(score):  # of parameters that are shared out among processes, one may hold no row
        return []
    if score.is_contiguous() and kept.is_contiguous():
        score, kept = score.view(-1), kept.view(-1)
    width = score.numel() // len(score)
    rows = max(1, most // width)
    cuts = zip(score.split(rows), kept.split(rows), result.view(-1).split(rows * width), strict=True)
    return [Part(*each) for each in cuts]
