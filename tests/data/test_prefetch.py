"""Items made ahead: in order, with their errors, no more than asked for, by a thread that ends with its iterator."""

import threading
import time
import traceback
from collections.abc import Iterator

import pytest
import torch

from lnsub.data.prefetch import AHEAD, prefetched


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lnsub-prefetch"]


def failing_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("no more")


def test_items_come_in_order_and_the_thread_ends():
    assert list(prefetched(range(50))) == list(range(50))
    assert list(prefetched([])) == []
    assert not threads()


def test_no_more_are_made_than_asked_for():
    made: list[int] = []

    def counted() -> Iterator[int]:
        for i in range(20):
            made.append(i)
            yield i

    items = prefetched(counted())
    assert not made
    for i in range(5):
        assert next(items) == i
        end = time.monotonic() + 10
        while len(made) < i + 1 + AHEAD and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.02)  # for one too many
        assert len(made) == i + 1 + AHEAD
    items.close()
    assert len(made) == 5 + AHEAD


def test_an_error_comes_at_its_place_and_says_where_it_was_raised():
    items = prefetched(failing_after(3))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LookupError, match="no more") as raised:
        next(items)
    assert "failing_after" in "".join(traceback.format_tb(raised.value.__traceback__))
    assert not threads()


@pytest.mark.parametrize("ending", ["closed", "forgotten", "an error outside"])
def test_the_thread_ends_with_its_iterator(ending):
    items = prefetched(iter(int, 1))
    next(items)
    assert len(threads()) == 1
    if ending == "closed":
        items.close()
    elif ending == "forgotten":
        del items
    else:
        with pytest.raises(KeyError):
            items.throw(KeyError())
    assert not threads()


def test_global_random_numbers_are_untouched():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    list(prefetched(range(5)))
    assert torch.equal(torch.get_rng_state(), state)
