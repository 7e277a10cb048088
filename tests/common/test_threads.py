import threading

import pytest
import torch

from lnsub.common.threads import workers

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 20])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def of_a_new_thread() -> int:
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_results_come_in_the_order_of_the_items(threads):
    with workers(CPU) as pool:
        assert pool.each(lambda n: n * n, range(100)) == [n * n for n in range(100)]


def test_there_are_as_many_workers_as_torch_may_use_threads_up_to_8(threads):
    with workers(CPU) as pool:
        assert pool.count == min(threads, 8)
        # All of them are needed at once to pass the barrier.
        barrier = threading.Barrier(pool.count, timeout=60)
        assert len(pool.each(lambda _: barrier.wait(), range(pool.count))) == pool.count


def test_operations_inside_run_on_one_thread_each_and_the_setting_comes_back(threads):
    with workers(CPU) as pool:
        assert set(pool.each(lambda _: torch.get_num_threads(), range(20))) == {1}
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    assert of_a_new_thread() == threads


def test_the_setting_comes_back_after_an_error_which_is_passed_on(threads):
    with pytest.raises(ZeroDivisionError), workers(CPU) as pool:
        pool.each(lambda n: 1 // n, [1, 0])
    assert torch.get_num_threads() == threads
    assert of_a_new_thread() == threads


def test_another_device_is_served_by_the_calling_thread(threads):
    with workers(torch.device("meta")) as pool:
        assert pool.each(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("items", [1, 7, 8, 9, 326])
def test_strips_are_runs_that_make_up_the_items(threads, items):
    with workers(CPU) as pool:
        chunks = pool.chunks(range(items))
    assert [n for chunk in chunks for n in chunk] == list(range(items))
    assert len(chunks) <= 4 * min(threads, 8)
