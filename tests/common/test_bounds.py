"""Numbers with bounds, against comparisons in the test."""

import math

import pytest

from lnsub.common.bounds import (
    Count,
    CountOrZero,
    Fraction,
    Length,
    Limit,
    Minutes,
    Multiple,
    Nodes,
    NonNegative,
    OrAll,
    Part,
    Seed,
    Share,
    UpTo10,
    Workers,
    check_numbers,
    hints_of,
    out_of_bounds,
)
from lnsub.common.errors import UserError

WHOLE = {
    Count: lambda n: 1 <= n < 2**31,
    CountOrZero: lambda n: 0 <= n < 2**31,
    Seed: lambda n: 0 <= n < 2**32,
    Nodes: lambda n: 1 <= n <= 65_536,
    Workers: lambda n: 0 <= n <= 256,
    Multiple: lambda n: 1 <= n <= 4096,
    Length: lambda n: 8 <= n <= 2**20,
    OrAll: lambda n: -1 <= n < 2**31,
    Limit: lambda n: n == -1 or 1 <= n < 2**31,
}
REAL = {
    Fraction: lambda x: 0 < x < 1,
    Share: lambda x: 0 <= x < 1,
    Part: lambda x: 0 < x <= 1,
    UpTo10: lambda x: 0 <= x <= 10,
    NonNegative: lambda x: 0 <= x < math.inf,
    Minutes: lambda x: 0 < x <= 100_000,
}
INTEGERS = [-(10**30), -2, -1, 0, 1, 7, 8, 256, 257, 4096, 4097, 65_536, 65_537, 2**20, 2**20 + 1, 2**31 - 1, 2**31]
INTEGERS += [2**32 - 1, 2**32, 10**30]
NUMBERS = [-math.inf, -1.0, -1e-300, 0, 0.0, 5e-324, 0.5, 1 - 2**-53, 1, 1.0, 1 + 2**-52, 10, 10.1, 1e5, 1e5 + 0.1]
NUMBERS += [1e300, math.inf, math.nan, 10**400]


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_whole_numbers_have_their_bounds(kind):
    assert [out_of_bounds(n, kind) is None for n in INTEGERS] == [WHOLE[kind](n) for n in INTEGERS]
    for other in (2.5, math.nan, True, "8", "x", [8], {}, 1j):
        assert out_of_bounds(other, kind) is not None


@pytest.mark.parametrize("kind", REAL, ids=lambda kind: kind.__name__)
def test_real_numbers_have_their_bounds(kind):
    # 10**400 is within none but NonNegative, where no float holds it.
    expected = [REAL[kind](x) and x != 10**400 for x in NUMBERS]
    assert [out_of_bounds(x, kind) is None for x in NUMBERS] == expected
    for other in (True, "0.5", [0.5], None):
        assert out_of_bounds(other, kind) is not None


class Owner:
    """What is made with numbers."""

    def __init__(self, size: Count = 3, rate: Part | None = None, levels: list[Fraction] | None = None) -> None:
        check_numbers(hints_of(type(self)), locals(), prefix="model.")
        self.given = (size, rate, levels)


class Heir(Owner):
    """What is made with more."""

    def __init__(self, *args: object, share: Share = 0.5, name: str = "a", **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        check_numbers(hints_of(Heir), {"share": share, "name": name})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, r"model\.size is 0: it must be a whole number from 1"),
        ({"size": None}, r"model\.size is null: it must have a value"),
        ({"size": 10**5000}, "thousands of digits"),
        ({"rate": 2}, r"model\.rate is 2: it must be a number above 0 and at most 1"),
        ({"levels": 0.5}, r"levels is 0\.5: it must be a list, each of its values a number above 0"),
        ({"levels": [0.5, 1.5]}, "levels is .*: it must be a number above 0 and below 1"),
        ({"share": 1}, "share is 1: it must be a number of at least 0 and below 1"),
        ({"name": None}, "name is null"),
        ({"name": ""}, "name is empty: it must name something"),
    ],
)
def test_a_number_out_of_its_bounds_is_named_with_them(values, message):
    with pytest.raises(UserError, match=message):
        Heir(**values)


def test_numbers_within_their_bounds_are_taken():
    assert Heir(1, 1.0, [0.1, 0.2], share=0, name="x").given == (1, 1.0, [0.1, 0.2])
    assert Heir(rate=None, levels=None).given == (3, None, None)


class Foreign(Owner):
    """What another package makes, with types that are imported for a type checker alone."""

    def __init__(self, other: "Unknown", size: Count = 3) -> None:  # type: ignore[name-defined]  # noqa: F821
        super().__init__(size)


def test_types_that_cannot_be_resolved_are_left_alone():
    assert "other" not in hints_of(Foreign)
    with pytest.raises(UserError, match="size is 0"):
        Foreign(None, 0)
