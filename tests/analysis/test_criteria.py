import math
from pathlib import Path
from statistics import stdev

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lnsub.analysis.criteria import (
    AT_CHANCE,
    BINOMIAL,
    CHOSEN,
    NONE,
    NOTHING,
    PAIRED,
    Measured,
    judged,
    published_verdict,
    successes,
    verdict,
)
from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.transfer_cells import transfer_cells
from lnsub.runs.examples import Examples

NAN = math.nan
ACCURACY = MainMetric("accuracy", "accuracy", chance=1 / 3)
F1 = MainMetric("f1", "F1", chance=0.05)
PERPLEXITY = MainMetric("perplexity", "perplexity", False, False)


@pytest.mark.parametrize(
    ("metric", "deviation", "runs", "chosen", "amount", "criterion"),
    [
        (ACCURACY, 0.02, 3, None, 0.02, "deviation over 3 seeds"),
        (ACCURACY, 0.0, 2, None, 0.0, "deviation over 2 seeds"),
        (PERPLEXITY, 0.3, 2, None, 0.3, "deviation over 2 seeds"),
        (ACCURACY, 0.02, 3, 0.01, 0.01, CHOSEN),
        (PERPLEXITY, 0.02, 3, 0.01, 0.008, CHOSEN),
        (ACCURACY, NAN, 1, 0.01, 0.01, CHOSEN),
    ],
)
def test_a_value_may_fall_short_by_the_deviation_over_seeds_or_as_chosen(
    metric: MainMetric, deviation: float, runs: int, chosen: float | None, amount: float, criterion: str
) -> None:
    reference = Measured(0.8, deviation, runs)
    for gain, holds in ((-amount, True), (0.1, True), (-amount - 1e-6, False)):
        found = verdict(Measured(0.8 + metric.sign * gain), reference, metric, chosen)
        assert (found.tolerance, found.criterion, found.holds) == (pytest.approx(amount), criterion, holds)


def test_one_seed_without_examples_and_an_unknown_reference_have_no_verdict() -> None:
    for reference in (Measured(0.8), Measured(NAN, 0.1, 3)):
        found = verdict(Measured(0.9), reference, ACCURACY)
        assert (math.isnan(found.tolerance), found.criterion, found.holds) == (True, NONE, None)


def kept(path: Path, columns: dict[str, np.ndarray], first: int = 0) -> Measured:
    sums = {name: column.sum() for name, column in columns.items()}
    number = len(next(iter(columns.values())))
    Examples(np.arange(first, first + number), {name: c.astype(float) for name, c in columns.items()}).save(path)
    if "hits" in sums:
        return Measured(2 * sums["hits"] / (sums["predicted"] + sums["gold"]), examples=str(path))
    if "nats" in sums:
        return Measured(math.exp(sums["nats"] / sums["tokens"]), examples=str(path))
    return Measured(sums["correct"] / sums["pairs"], examples=str(path))


def pairs(n: int, share: float, seed: int) -> dict[str, np.ndarray]:
    return {"correct": np.random.default_rng(seed).random(n) < share, "pairs": np.ones(n)}


def test_one_seed_is_judged_by_the_examples_of_both(tmp_path: Path) -> None:
    columns = pairs(4000, 0.7, 0)
    dense = kept(tmp_path / "dense.npz", columns)
    # The ticket loses 15 of the examples that the dense model has: 0.375 points, whose bound is known.
    lost = columns["correct"].copy()
    lost[np.flatnonzero(lost)[:15]] = False
    ticket = kept(tmp_path / "ticket.npz", columns | {"correct": lost})
    deviation = (lost.astype(float) - columns["correct"]).std() / math.sqrt(4000)
    assert ticket.value - dense.value - stats.norm.ppf(0.95) * deviation > -0.01
    found = verdict(ticket, dense, ACCURACY)
    assert (found.tolerance, found.criterion, found.holds) == (0.01, PAIRED, True)
    # As much worse, but not on the same few examples: nothing excludes that it is worse by a point.
    other = kept(tmp_path / "other.npz", pairs(4000, 0.7, 1))
    assert verdict(other, dense, ACCURACY).holds is False
    assert verdict(other, dense, ACCURACY).criterion == PAIRED


def test_a_perplexity_may_be_five_per_cent_higher(tmp_path: Path) -> None:
    nats, tokens = np.full(300, 40.0), np.full(300, 20.0)
    dense = kept(tmp_path / "dense.npz", {"nats": nats, "tokens": tokens})
    for factor, holds in ((1.049, True), (1.051, False), (0.5, True)):
        ticket = kept(tmp_path / f"{factor}.npz", {"nats": nats + 20 * math.log(factor), "tokens": tokens})
        assert ticket.value == pytest.approx(factor * dense.value)
        found = verdict(ticket, dense, PERPLEXITY)
        assert (found.criterion, found.holds) == (PAIRED, holds)
        assert found.tolerance == pytest.approx(0.05 * dense.value)


@pytest.mark.parametrize("damage", ["missing", "text", "pickle", "other rows", "other gold", "other columns"])
def test_what_is_not_of_the_same_examples_is_not_compared(tmp_path: Path, damage: str) -> None:
    gold = np.tile([1.0, 2.0], 50)
    columns = {"hits": gold, "predicted": gold, "gold": gold}
    dense, path = kept(tmp_path / "dense.npz", columns), tmp_path / "ticket.npz"
    ticket = kept(path, columns)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "pickle":
        np.savez(path, index=np.array([{}], dtype=object))
    elif damage == "other rows":
        kept(path, columns, first=1)
    elif damage == "other gold":
        kept(path, columns | {"gold": gold[::-1]})
    else:
        kept(path, {"correct": gold, "pairs": gold})
    assert verdict(ticket, dense, F1).criterion == NONE
    assert verdict(dense, dense, F1).holds is True


def test_nothing_matches_a_reference_at_chance(tmp_path: Path) -> None:
    dense = kept(tmp_path / "dense.npz", pairs(900, 0.34, 0))
    perfect = kept(tmp_path / "ticket.npz", pairs(900, 1.0, 0))
    for ticket in (dense, perfect):
        found = verdict(ticket, dense, ACCURACY)
        assert (found.criterion, found.holds) == (AT_CHANCE, False)
    # Over seeds: 0.45 of three seeds is above a third with 95 % confidence by Student's t, 0.36 is not.
    for value, criterion in ((0.45, "deviation over 3 seeds"), (0.36, AT_CHANCE)):
        assert (value - stats.t.ppf(0.95, 2) * 0.03 / math.sqrt(3) > 1 / 3) == (criterion != AT_CHANCE)
        assert verdict(Measured(0.9), Measured(value, 0.03, 3), ACCURACY).criterion == criterion


def test_published_values_are_judged_by_their_number_of_examples() -> None:
    found = published_verdict(Measured(0.793), Measured(0.8), ACCURACY, 2500)
    assert (found.tolerance, found.criterion, found.holds) == (pytest.approx(0.008), BINOMIAL, True)
    found = published_verdict(Measured(9.01), Measured(9.0), PERPLEXITY, 2500)
    assert (found.tolerance, found.criterion, found.holds) == (0.0, NOTHING, False)


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
    found = judged(cells("f1", values), {"f1": F1}).set_index(["source", "target"])
    assert found.loc[("ru", "fr"), "successful"]
    assert found.loc[("fr", "ru"), "successful"] is False
    assert found.loc[("fr", "fr"), "successful"] is None
    assert found.loc[("ru", "fr"), "tolerance"] == pytest.approx(stdev(own))
    (row,) = successes(found.reset_index(), ["task"]).to_dict("records")
    assert row == {"task": "f1", "successful": 1, "transfers": 2, "criterion": "deviation over 3 seeds"}


def test_a_perplexity_that_is_lower_succeeds_and_a_mixtures_own_languages_are_no_transfer() -> None:
    values = {
        ("fr", "fr"): (9.0, 9.0),
        ("ru", "fr"): (8.9, 8.9),
        ("zh", "fr"): (9.01,) * 2,
        ("fr+ru", "fr"): (8.0,) * 2,
    }
    values |= {("x", "y"): (1.0, 1.0), ("ur", "ur"): (9.0,), ("ru", "ur"): (8.0,)}
    found = judged(cells("perplexity", values), {"perplexity": PERPLEXITY}).set_index(["source", "target"])
    assert found["successful"].to_dict() == {
        ("fr", "fr"): None, ("ru", "fr"): True, ("zh", "fr"): False, ("fr+ru", "fr"): None, ("x", "y"): None,
        ("ur", "ur"): None, ("ru", "ur"): None,  # one seed
    }  # fmt: skip
