from itertools import islice

import numpy as np
import pytest

from lnsub.analysis.bootstrap import draws, interval


def test_each_factor_is_drawn_with_replacement_and_poor_draws_are_drawn_anew() -> None:
    rng, expected = np.random.default_rng(5), []
    while len(expected) < 200:
        drawn = [rng.integers(0, n, n).tolist() for n in (3, 4)]
        if min(len(set(members)) for members in drawn) >= 2:
            expected.append([[members.count(m) for m in range(n)] for members, n in zip(drawn, (3, 4), strict=True)])
    found = list(islice(draws(np.random.default_rng(5), (3, 4), at_least=2), 200))
    assert [[counts.tolist() for counts in drawn] for drawn in found] == expected


def test_the_interval_leaves_out_what_is_not_defined() -> None:
    assert interval([*range(101), float("nan")]) == pytest.approx((2.5, 97.5))
    assert interval([float("nan")]) == (None, None)
    assert interval([]) == (None, None)
