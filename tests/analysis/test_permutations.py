"""Orders for permutation tests: all of few, distinct and with the identity first; else a sample that starts with it."""

from itertools import permutations

import numpy as np
import pytest

from lnsub.analysis.permutations import orders


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_orders_of_few_numbers(size):
    assert [tuple(row) for row in orders(size, 0, all_up_to=5, drawn=3)] == list(permutations(range(size)))


def test_a_sample_of_the_orders_of_many_numbers():
    found = orders(6, 1, all_up_to=5, drawn=600)
    assert found.shape == (600, 6)
    assert found[0].tolist() == list(range(6))
    assert (np.sort(found, axis=1) == np.arange(6)).all()
    # Each number is as often in each place: 100 times, give or take.
    assert abs(np.array([np.bincount(column, minlength=6) for column in found.T]) - 100).max() < 5 * np.sqrt(100)
    assert (orders(6, 1, all_up_to=5, drawn=600) == found).all()
    assert (orders(6, 2, all_up_to=5, drawn=600) != found).any()
