"""CPU threads that each run torch's operations, in place of operations that each run on several threads.

Work that consists of many short operations on blocks that fit the cache is split this way. The other way round, torch's
threads would wait for one another after every operation: ten times slower as soon as another process wants the same
cores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 8  # each needs buffers, and the speed of the memory is the limit soon


@dataclass(frozen=True)
class Workers:
    """Threads to share work among. Made by :func:`workers`.

    Attributes:
        count: how many there are.
        pool: the threads, or None where the calling one does all.
    """

    count: int
    pool: ThreadPoolExecutor | None

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Calls ``function`` with each item, in no set order, and returns the results in the items' order."""
        return list(self.pool.map(function, items) if self.pool else map(function, items))

    def chunks(self, items: Sequence[T]) -> list[Sequence[T]]:
        """Cuts ``items`` into runs: a few for each worker, so that one whose core is busy holds up the others less."""
        size = max(1, -(-len(items) // (4 * self.count)))
        return [items[start : start + size] for start in range(0, len(items), size)]


@contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Gives as many CPU threads as torch may use, at most 8; for tensors on another device, the calling thread.

    Inside, torch's operations run on one thread each, the calling thread's too; afterwards torch's setting is back.

    Args:
        device: where the tensors are that are worked on.

    Yields:
        The workers. Grad mode is each thread's own: detach what goes in.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield Workers(1, None)
        return
    count = min(threads, _MOST)
    # The setting is the calling thread's own, and threads that are made later start with the last one.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(count, pool)
    finally:
        torch.set_num_threads(threads)
