import pytest

from lnsub.common.errors import UserError
from lnsub.pruning.schedules import sparsities


def test_linear_is_what_was_listed():
    assert sparsities("linear", levels=[0.1, 0.2, 0.9]) == (0.1, 0.2, 0.9)


def test_one_level_is_one_shot():
    assert sparsities("linear", levels=[0.7]) == (0.7,)


@pytest.mark.parametrize(("rate", "rounds"), [(0.1, 22), (0.2, 5), (0.5, 1), (0.99, 2), (1e-5, 4)])
def test_geometric_prunes_the_same_share_of_what_is_left_each_round(rate, rounds):
    levels = sparsities("geometric", rate=rate, rounds=rounds)
    assert len(levels) == rounds
    left = 1.0
    for level in levels:
        left -= rate * left
        assert level == pytest.approx(1 - left, rel=1e-6)


def test_geometric_gives_sparsities_without_digits_of_rounding():
    assert sparsities("geometric", rate=0.1, rounds=3) == pytest.approx((0.1, 0.19, 0.271), abs=1e-16)


@pytest.mark.parametrize("levels", [[0.1, 0.2, 0.5], [0.5]])
def test_schedules_increase_strictly_within_0_and_1(levels):
    for schedule in (sparsities("linear", levels=levels), sparsities("geometric", rate=0.3, rounds=30)):
        assert all(0 < a < b < 1 for a, b in zip((1e-300, *schedule), schedule, strict=False))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "at least one"),
        ([0.0, 0.5], r"0\.0"),
        ([0.5, 1.0], r"1\.0"),
        ([-0.1], r"-0\.1"),
        ([float("nan")], "nan"),
        ([0.2, 0.1], r"0\.1 follows 0\.2"),
        ([0.2, 0.2], r"0\.2 follows 0\.2"),
        # Ticket files are named by six decimals.
        ([0.3, 0.3000001], r"6 decimals.*0\.3000001 follows 0\.3"),
        ([1e-7], "above 0"),
        ([0.9999999], "below 1"),
    ],
)
def test_levels_out_of_range_or_order_are_refused(levels, message):
    with pytest.raises(UserError, match=message):
        sparsities("linear", levels=levels)


@pytest.mark.parametrize(
    ("rate", "rounds", "message"),
    [
        (0.0, 3, r"0\.0"),
        (1.0, 3, r"1\.0"),
        (float("nan"), 3, "nan"),
        (0.1, 0, "at least 1 .*0"),
        (0.5, 100, r"100 .*0\.5"),
        (1e-9, 4, "6 decimals"),
        (0.1, 400, r"400 .*0\.1"),
    ],
)
def test_a_rate_or_number_of_rounds_out_of_range_is_refused(rate, rounds, message):
    with pytest.raises(UserError, match=message):
        sparsities("geometric", rate=rate, rounds=rounds)


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ("linear", {"levels": [0.1], "rate": 0.1}, "linear .* rate, only levels"),
        ("linear", {"levels": [0.1], "rounds": 3}, "linear .* rounds, only levels"),
        ("geometric", {"rate": 0.1, "rounds": 3, "levels": [0.1]}, "geometric .* levels, only rate and rounds"),
        ("linear", {}, "linear .* levels"),
        ("geometric", {"rate": 0.1}, "geometric .* rounds"),
        ("geometric", {"rounds": 3}, "geometric .* rate"),
    ],
)
def test_an_option_of_the_other_schedule_or_a_missing_one_is_refused(schedule, options, message):
    with pytest.raises(UserError, match=message):
        sparsities(schedule, **options)


def test_an_unknown_schedule_is_refused_with_the_closest():
    with pytest.raises(UserError, match="did you mean geometric"):
        sparsities("geometrical", rate=0.1, rounds=2)
