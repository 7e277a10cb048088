"""CPU threads that each run their own torch operations, instead of operations that each run on several threads.

This splits work that consists of many short operations on blocks that fit the cache. The other way round, torch's
threads would wait for one another after every operation, which is ten times slower as soon as another process uses the
same cores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 8  # each needs buffers, and memory bandwidth soon is the limit


@dataclass(frozen=True)
class Workers:
    """Threads that share work. Made by :func:`workers`.

    Attributes:
        count: how many there are.
        pool: the threads, or None where the calling thread does everything.
    """

    count: int
    pool: ThreadPoolExecutor | None

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Calls ``function`` with each item, in any order, and returns the results in the items' order."""
        return list(self.pool.map(function, items) if self.pool else map(function, items))

    def chunks(self, items: Sequence[T]) -> list[Sequence[T]]:
        """Cuts ``items`` into runs: a few per worker, so that one on a busy core delays the others less."""
        size = max(1, -(-len(items) // (4 * self.count)))
        return [items[start : start + size] for start in range(0, len(items), size)]


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Starts as many CPU threads as torch may use, at most 8; for tensors on another device, the calling thread works.

    Inside, torch's operations run on one thread each, in the calling thread too; then torch's setting is restored.

    Args:
        device: where the tensors are.

    Yields:
        The workers. Grad mode is each thread's own: detach what goes in.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield Workers(1, None)
        return
    count = min(threads, _MOST)
    # The setting is the calling thread's own, and threads that are made later start with the latest one.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(count, pool)
    finally:
        torch.set_num_threads(threads)
