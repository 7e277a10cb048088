from itertools import product

import numpy as np
import pandas as pd
import pytest

from lnsub.analysis.recovered import UNCLEAR, recovered_cells, recovered_changes, recovered_shares

LANGUAGES = ("fr", "es", "ur")
COLUMNS = ["variant", "source", "target", "sparsity", "seed", "value"]


def records(value, languages=LANGUAGES, sparsities=(0.5,), seeds=(67, 68)) -> pd.DataFrame:
    """Records of every ticket on every target and of the inherited mask, with ``value(source, target, ...)``."""
    rows = [
        ("ticket" if source else "inherited", source, target, sparsity, seed, value(source, target, sparsity, seed))
        for source, target, sparsity, seed in product((*languages, None), languages, sparsities, seeds)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def noisy(rng: np.random.Generator, shares: dict[float, float], languages: int, seeds: int) -> pd.DataFrame:
    """Records of a study in which foreign tickets recover these shares in expectation; languages differ."""
    names = [f"l{i}" for i in range(languages)]
    parts = []
    for sparsity, share in shares.items():
        gain = dict(zip(names, 0.06 + 0.02 * rng.standard_normal(languages), strict=True))
        source_of, target_of = (dict(zip(names, 0.1 * rng.standard_normal(languages), strict=True)) for _ in "ab")

        def value(source, target, sparsity, seed, share=share, gain=gain, source_of=source_of, target_of=target_of):
            reached = 1.0 if source == target else share + source_of.get(source, 0) + target_of[target]
            return 0.4 + (gain[target] * reached if source else 0) + 0.01 * rng.standard_normal()

        parts.append(records(value, names, (sparsity,), range(seeds)))
    return pd.concat(parts, ignore_index=True)


def test_the_share_is_what_a_loop_over_the_cells_gives():
    rng = np.random.default_rng(0)
    gain = {key: rng.uniform(0.05, 0.1) for key in product((*LANGUAGES, None), LANGUAGES, (67, 68))}
    base = {"fr": 0.3, "es": 0.5, "ur": 0.4}
    found = recovered_cells(records(lambda s, t, _, k: base[t] + (gain[s, t, k] if s else 0)))
    own = [gain[t, t, k] for t, k in product(LANGUAGES, (67, 68))]
    foreign = [np.mean([gain[s, t, k] for s in LANGUAGES if s != t]) for t, k in product(LANGUAGES, (67, 68))]
    (row,) = recovered_shares(found).to_dict("records")
    assert row["share"] == pytest.approx(sum(foreign) / sum(own))
    assert (row["languages"], row["seeds"], row["cells"]) == (3, 2, 12)
    assert row["inherited"] == pytest.approx(0.4)
    assert row["own"] - row["inherited"] == pytest.approx(row["own_gain"]) == pytest.approx(np.mean(own))
    (cell,) = found[(found["source"] == "fr") & (found["target"] == "ur") & (found["seed"] == 68)].to_dict("records")
    assert cell["share"] == pytest.approx(gain["fr", "ur", 68] / gain["ur", "ur", 68])
    assert row["interval"] == "jackknife over 3 languages, 2 seeds averaged"


def test_a_loss_gives_the_share_of_its_negative():
    rng = np.random.default_rng(1)
    frame = noisy(rng, {0.5: 0.6}, 4, 3)
    loss = frame.assign(value=2 - frame["value"])
    (better,), (lower,) = (
        recovered_shares(recovered_cells(*args)).to_dict("records") for args in ((frame,), (loss, False))
    )
    for name in ("share", "share_low", "share_high", "own_gain", "foreign_gain"):
        assert better[name] == pytest.approx(lower[name])
    assert recovered_shares(recovered_cells(loss))["interval"].tolist() == [UNCLEAR]


def test_a_target_that_gains_next_to_nothing_does_not_make_the_share():
    gain = {**dict.fromkeys("abcdefg", 0.1), "h": 0.001}
    found = recovered_cells(records(lambda s, t, *_: 0.4 + (0 if s is None else gain[t] if s == t else 0.05), gain))
    assert found["share"].mean() > 6
    assert recovered_shares(found)["share"].item() == pytest.approx(0.05 / (0.701 / 8))


def test_where_own_tickets_gain_nothing_there_is_no_share():
    rng = np.random.default_rng(2)
    frame = records(lambda *_: 0.4 + 0.01 * rng.standard_normal(), languages="abcde")
    (row,) = recovered_shares(recovered_cells(frame)).to_dict("records")
    assert (row["share"], row["share_low"], row["interval"]) == (None, None, UNCLEAR)
    assert row["own_gain_low"] < 0 < row["own_gain_high"]


def test_two_languages_have_a_share_without_an_interval():
    found = recovered_cells(records(lambda s, t, *_: 0.4 + (0 if s is None else 0.1 if s == t else 0.05), "ab"))
    (row,) = recovered_shares(found).to_dict("records")
    assert row["share"] == pytest.approx(0.5)
    assert (row["share_low"], row["interval"]) == (None, "it takes 3 languages, here 2")


def test_mixtures_repetitions_and_what_diverged():
    frame = records(lambda s, t, *_: 0.4 + (0 if s is None else 0.1 if s == t else 0.05))
    extra = [("ticket", "fr+es", "ur", 0.5, 67, 9.0), ("ticket", "fr", "fr+es", 0.5, 67, 9.0)]
    extra += [("shuffled", "fr", "ur", 0.5, 67, 9.0), ("ticket", "fr", "ur", 0.5, 67, float("nan"))]
    more = pd.concat([frame, frame, pd.DataFrame(extra, columns=COLUMNS)], ignore_index=True)
    pd.testing.assert_frame_equal(recovered_cells(more), recovered_cells(frame))
    assert recovered_shares(recovered_cells(frame.iloc[:0])).empty
    assert recovered_changes(recovered_cells(frame.iloc[:0])).empty


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held, changed = [], []
    for _ in range(60):
        cells = recovered_cells(noisy(rng, {0.5: 0.6, 0.8: 0.4}, 5, 2))
        share, change = recovered_shares(cells).iloc[0], recovered_changes(cells).iloc[0]
        held += [] if share["share"] is None else [share["share_low"] <= 0.6 <= share["share_high"]]
        changed += [] if change["change"] is None else [change["change_low"] <= -0.2 <= change["change_high"]]
    assert len(held) > 55
    assert len(changed) > 50
    assert np.mean(held) > 0.88
    assert np.mean(changed) > 0.88


def test_the_change_is_paired_over_what_both_sparsities_have():
    rng = np.random.default_rng(4)
    frame = noisy(rng, {0.5: 0.6, 0.8: 0.4}, 4, 3)
    cells = recovered_cells(frame)
    fewer = recovered_cells(frame[(frame["sparsity"] == 0.5) | (frame["target"] != "l0")])
    (row,) = recovered_changes(fewer).to_dict("records")
    common = recovered_shares(cells[(cells["target"] != "l0")])["share"]
    assert row["change"] == pytest.approx(common.iloc[1] - common.iloc[0])
    assert (row["from_share"], row["to_share"]) == pytest.approx(tuple(common))
    assert row["change_low"] < row["change"] < row["change_high"]
