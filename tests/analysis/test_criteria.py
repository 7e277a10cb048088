import math
from statistics import stdev

import pandas as pd
import pytest

from lnsub.analysis.criteria import BINOMIAL, CHOSEN, NONE, judged, successes, tolerance
from lnsub.analysis.transfer_cells import transfer_cells

NAN = math.nan


@pytest.mark.parametrize(
    ("is_share", "n", "deviation", "runs", "chosen", "amount", "criterion"),
    [
        (True, 2500, 0.02, 3, None, 0.02, "deviation over 3 seeds"),
        (True, 2500, 0.0, 2, None, 0.0, "deviation over 2 seeds"),
        (True, 2500, NAN, 1, None, 0.008, BINOMIAL),  # sqrt(0.8 * 0.2 / 2500)
        (True, 0, NAN, 1, None, 0.0, NONE),
        (True, NAN, NAN, 1, None, 0.0, NONE),
        (False, 2500, NAN, 1, None, 0.0, NONE),
        (False, 2500, 0.3, 2, None, 0.3, "deviation over 2 seeds"),
        (True, 2500, 0.02, 3, 0.01, 0.01, CHOSEN),
        (False, 2500, 0.02, 3, 0.01, 0.008, CHOSEN),
    ],
)
def test_the_deviation_over_seeds_comes_before_the_standard_error(
    is_share: bool, n: float, deviation: float, runs: int, chosen: float | None, amount: float, criterion: str
) -> None:
    found = tolerance(0.8, is_share=is_share, n=n, deviation=deviation, runs=runs, chosen=chosen)
    assert (found.amount, found.criterion) == (pytest.approx(amount), criterion)
    assert found.holds(-amount)
    assert found.holds(0.1)
    assert not found.holds(-amount - 1e-6)


def test_an_unknown_reference_is_matched_by_nothing() -> None:
    found = tolerance(NAN, is_share=True, n=10, deviation=0.1, runs=3)
    assert math.isnan(found.amount)
    assert not found.holds(1.0)


def cells(metric: str, values: dict[tuple[str, str], tuple[float, ...]]) -> pd.DataFrame:
    rows = [
        {"kind": "transfer", "source": s, "target": t, "value": v, "seed": seed, "ticket": f"{s}{seed}", "n": 400}
        | {"metric": metric, "higher_is_better": metric != "perplexity", "sparsity": 0.5, "task": metric}
        for (s, t), found in values.items()
        for seed, v in enumerate(found)
    ]
    return transfer_cells(pd.DataFrame(rows))


def test_transfers_are_judged_by_the_deviation_of_the_targets_own() -> None:
    own = (0.80, 0.82, 0.87)
    least = sum(own) / 3 - stdev(own)
    values = {("fr", "fr"): own, ("ru", "ru"): (0.5, 0.5, 0.5), ("ru", "fr"): (least,) * 3, ("fr", "ru"): (0.499,) * 3}
    found = judged(cells("f1", values), {"f1"}).set_index(["source", "target"])
    assert found.loc[("ru", "fr"), "successful"]
    assert found.loc[("fr", "ru"), "successful"] is False
    assert found.loc[("fr", "fr"), "successful"] is None
    assert found.loc[("ru", "fr"), "tolerance"] == pytest.approx(stdev(own))
    (row,) = successes(found.reset_index(), ["task"]).to_dict("records")
    assert row == {"task": "f1", "successful": 1, "transfers": 2, "criterion": "deviation over 3 seeds"}


def test_a_perplexity_that_is_lower_succeeds_and_a_mixtures_own_languages_are_no_transfer() -> None:
    values = {("fr", "fr"): (9.0,), ("ru", "fr"): (8.9,), ("zh", "fr"): (9.01,), ("fr+ru", "fr"): (8.0,)}
    values |= {("x", "y"): (1.0,)}
    found = judged(cells("perplexity", values), {"accuracy"}).set_index(["source", "target"])["successful"]
    assert found.to_dict() == {
        ("fr", "fr"): None, ("ru", "fr"): True, ("zh", "fr"): False, ("fr+ru", "fr"): None, ("x", "y"): None,
    }  # fmt: skip
