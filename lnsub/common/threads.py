"""CPU threads that each run single-threaded torch operations, instead of multi-threaded operations.

This parallelises many short operations on cache-sized blocks. With torch's own parallelism the threads would
synchronise after every operation, which is ten times slower as soon as another process uses the same cores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 8  # each needs buffers, and memory bandwidth limits the speed-up


@dataclass(frozen=True)
class Workers:
    """A pool of threads. Made by :func:`workers`.

    Attributes:
        count: number of threads.
        pool: the threads, or None if the calling thread does all the work.
    """

    count: int
    pool: ThreadPoolExecutor | None

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Calls ``function`` on each item, in any order, and returns the results in the items' order."""
        return list(self.pool.map(function, items) if self.pool else map(function, items))

    def chunks(self, items: Sequence[T]) -> list[Sequence[T]]:
        """Splits ``items`` into contiguous chunks, a few per worker, so that a slow core delays the others less."""
        size = max(1, -(-len(items) // (4 * self.count)))
        return [items[start : start + size] for start in range(0, len(items), size)]


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Starts as many CPU threads as torch may use, at most 8; for other devices, uses only the calling thread.

    Inside, torch operations are single-threaded, in the calling thread too; torch's setting is restored afterwards.

    Args:
        device: the tensors' device.

    Yields:
        The workers. Grad mode is thread-local: detach inputs.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield Workers(1, None)
        return
    count = min(threads, _MOST)
    # The setting is thread-local, and new threads start with the latest value.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(count, pool)
    finally:
        torch.set_num_threads(threads)
