import numpy as np
import pytest
from scipy import stats

from lnsub.analysis.jackknife import interval


def test_of_a_mean_over_one_factor_it_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    found = interval(lambda weights: float(weights[0] @ values / weights[0].sum()), [7])
    assert found == pytest.approx(stats.t.interval(0.95, 6, values.mean(), stats.sem(values)))


def test_variances_of_crossed_factors_add_up_with_satterthwaites_degrees_of_freedom() -> None:
    rows, columns = np.random.default_rng(1).normal(size=5), np.random.default_rng(2).normal(size=4)
    table = 10 + rows[:, None] + columns

    def mean(weights: list[np.ndarray]) -> float:
        of_rows, of_columns = weights
        return float(of_rows @ table @ of_columns / (of_rows.sum() * of_columns.sum()))

    a, b = rows.var(ddof=1) / 5, columns.var(ddof=1) / 4  # of an additive table the mean's own
    freedom = (a + b) ** 2 / (a**2 / 4 + b**2 / 3)
    expected = stats.t.interval(0.95, freedom, table.mean(), np.sqrt(a + b))
    assert interval(mean, [5, 4]) == pytest.approx(expected)


def test_what_never_varies_has_an_interval_of_one_point() -> None:
    assert interval(lambda weights: 2.0, [3, 3]) == (2.0, 2.0)


def test_few_members_or_an_undefined_statistic_have_no_interval() -> None:
    assert interval(lambda weights: float(weights[0].sum()), [2]) == (None, None)
    assert interval(lambda weights: None, [5, 5]) == (None, None)
    assert interval(lambda weights: 1.0 if weights[0][2] else None, [5]) == (None, None)
