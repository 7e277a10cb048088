"""Batches made ahead by one thread, so that the next one is ready, and pinned, before the step that needs it.

A loader process would make them too, but handing a batch of a few small tensors from one process to another costs the
training process more than making it there (docs/speed.md). A thread hands over nothing but a reference, and numpy,
pyarrow and the copy to pinned memory release the interpreter while they work.
"""

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

import torch

T = TypeVar("T")

AHEAD = 2
"""Batches that are ready or being made while a step runs: one hides the making, a second evens out slow ones."""


def prefetched(batches: Iterable[T], ahead: int = AHEAD) -> Iterator[T]:
    """Yields what ``batches`` yields, taking it from there in a thread of its own.

    The thread starts with the first item that is asked for, and ends with this iterator: at its end, when it is closed
    or forgotten, and at an error.

    Args:
        batches: its ``__iter__`` and every ``__next__`` run in the thread.
        ahead: the most items that have been taken from it and not been yielded.

    Raises:
        BaseException: whatever ``batches`` raises, at its place in the order and with its traceback.
    """
    # A thread starts on GPU 0, whatever the GPU of the thread that made it; pinning memory there would give the process
    # a context on GPU 0 too.
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    slots = threading.Semaphore(ahead)
    stopped = threading.Event()

    def take() -> None:
        try:
            if device is not None:
                torch.cuda.set_device(device)
            items = iter(batches)
            while slots.acquire() and not stopped.is_set():
                ready.put((next(items),))
        except StopIteration:
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=take, name="lnsub-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            slots.release()
            yield item[0]
    finally:
        stopped.set()
        slots.release()
        thread.join()
