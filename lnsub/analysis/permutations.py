"""Orders of languages for permutation tests: all of them where they are few, else a sample."""

import math
from itertools import permutations

import numpy as np


def orders(size: int, seed: int, *, all_up_to: int, drawn: int) -> np.ndarray:
    """Permutations of the numbers from 0, the identity first, so that a share of them is a p that is never 0.

    Args:
        size: how many numbers, such as languages.
        seed: of the sample.
        all_up_to: the size up to which all permutations are returned.
        drawn: how many, the identity among them, of a larger size.

    Returns:
        int [permutations, size].
    """
    if size <= all_up_to:
        return np.array(list(permutations(range(size))), int).reshape(math.factorial(size), size)
    found = np.random.default_rng(seed).permuted(np.tile(np.arange(size), (drawn, 1)), axis=1)
    found[0] = np.arange(size)
    return found
