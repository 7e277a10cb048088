import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from lnsub.analysis.ablation.effects import Spread, cells, drops, overall, own_against_others
from lnsub.analysis.ablation.text import ablation_rows, ablation_text
from lnsub.common.tables import to_json
from lnsub.runs.records import Record
from tests.support.report_tree import record

LOSS = {"en": 2.0, "fr": 3.0, "zh": 4.0}
# By seed, source and target.
RISE = {
    (1, "en"): {"en": 0.5, "fr": 0.1, "zh": 0.2},
    (2, "en"): {"en": 0.7, "fr": 0.3, "zh": 0.0},
    (1, "fr"): {"en": 0.1, "fr": 0.4, "zh": -0.1},
    (2, "fr"): {"en": 0.1, "fr": 0.6, "zh": 0.1},
}
RANDOM = {(seed, draw): 0.01 * seed + 0.02 * draw for seed in (1, 2) for draw in (0, 1)}


def world(sparsity: dict[str, float] | None = None) -> list[Record]:
    """Two calibration seeds of two tickets each, with two draws: of English and French on three languages."""
    made: list[Record] = []

    def add(source: str | None, target: str, loss: float, **facts: object) -> None:
        for metric, value in (("loss", loss), ("perplexity", math.exp(loss)), ("accuracy", 0.1)):
            made.append(record("ablation", "mlm", source, target, value, metric=metric, **facts))

    for target, dense in LOSS.items():
        add(None, target, dense, removed="none", fill="zero", units=0, sparsity=0.0, score=None)
        for (seed, source), rise in RISE.items():
            facts = {"ticket": f"{source}{seed}", "source_seed": seed, "units": 7 + seed, "fill": "zero"}
            facts |= {"granularity": "neuron", "sparsity": (sparsity or {}).get(source, 0.9), "score": "lape"}
            add(source, target, dense + rise[target], removed="kept", **facts)
            for draw in (0, 1):
                more = {"removed": "random", "drawn_for": "kept", "draw": draw}
                add(source, target, dense + RANDOM[seed, draw], **facts, **more)
    return made


def frame(records: list[Record]) -> pd.DataFrame:
    return pd.DataFrame([vars(one) for one in records])


def test_a_cell_is_the_mean_rise_of_the_loss_over_seeds_beside_all_their_draws():
    table = cells(drops(frame(world()))).set_index(["source", "target"])
    draws = np.array(list(RANDOM.values()))
    deviation = draws.std(ddof=1)
    assert len(table) == 6
    for (source, target), row in table.iterrows():
        drop = (RISE[1, source][target] + RISE[2, source][target]) / 2
        assert row["drop"] == pytest.approx(drop)
        assert (row["dense"], row["tickets"], row["draws"], row["units"]) == (LOSS[target], 2, 4, 8.5)
        assert row["random"] == pytest.approx(draws.mean())
        assert row["z"] == pytest.approx((drop - draws.mean()) / deviation)
        half = t.ppf(0.975, 3) * deviation * math.sqrt(1 / 2 + 1 / 4)
        assert (row["low"], row["high"]) == pytest.approx((draws.mean() - half, draws.mean() + half))
        assert row["beyond"] == (abs(drop - draws.mean()) > half)


def test_the_prediction_interval_holds_further_means_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(4000):
        low, high = Spread.of(rng.normal(3.0, 2.0, 5)).interval(tickets=3)
        inside += low < rng.normal(3.0, 2.0, 3).mean() < high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)


def test_own_against_others_is_the_difference_of_means_and_random_removals_have_their_own():
    against = own_against_others(drops(frame(world()))).set_index("source")
    assert against.loc["en", "own"] == pytest.approx(0.6)
    assert against.loc["en", "others"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.0) / 4)
    assert against.loc["fr", "difference"] == pytest.approx(0.5 - 0.05)
    assert against["random"].tolist() == pytest.approx([0, 0])  # they take as much from each language
    assert against["random_own"].tolist() == pytest.approx([np.mean(list(RANDOM.values()))] * 2)
    (row,) = overall(own_against_others(drops(frame(world())))).to_dict("records")
    excess = np.array([0.45, 0.45])
    assert (row["excess"], row["languages"]) == (pytest.approx(excess.mean()), 2)
    assert row["excess_low"] == pytest.approx(row["excess_high"], abs=1e-9)


def test_tickets_whose_sparsities_differ_from_language_to_language_are_of_one_table():
    uneven = cells(drops(frame(world({"en": 0.991, "fr": 0.985}))))
    assert uneven["sparsity"].unique().tolist() == [0.988]
    two_levels = world() + [one for one in world({"en": 0.5, "fr": 0.5}) if one.removed != "none"]
    assert sorted(cells(drops(frame(two_levels)))["sparsity"].unique()) == [0.5, 0.9]


def test_a_mixtures_own_languages_are_all_of_its():
    mixed = [one for one in world() if one.source != "fr"]
    renamed = [Record(**(vars(one) | {"source": "en+zh" if one.source else None})) for one in mixed]
    (row,) = own_against_others(drops(frame(renamed))).to_dict("records")
    assert row["own"] == pytest.approx((0.5 + 0.7 + 0.2 + 0.0) / 4)
    assert (row["others"], row["targets"]) == (pytest.approx(0.2), 1)


def test_the_tables_of_the_command():
    text = ablation_text(world(), ("en", "fr", "zh"))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert "drop of log-perplexity; in brackets: from the mean of 4 random removals" in text
    assert lines["nothing"][1:] == [f"{math.exp(loss):.4f}" for loss in LOSS.values()]
    drop = next(line for line in text.splitlines() if line.split()[:2] == ["en", "8"])
    assert [part for part in drop.split() if part[0] in "+-"] == ["+0.6000", "+0.2000", "+0.1000"]
    rows = ablation_rows(world())
    assert [row["table"] for row in rows] == ["cells"] * 6 + ["own"] * 2 + ["overall"]
    alone = [one for one in world() if one.draw is None]
    assert "random" not in ablation_text(alone, ("en", "fr", "zh"))
    assert all(row["z"] is None for row in ablation_rows(alone) if row["table"] == "cells")


def test_a_model_that_overflows_leaves_dashes_and_nulls():
    broken = [
        Record(**(vars(one) | {"value": math.inf})) if one.removed == "kept" and one.target == "fr" else one
        for one in world()
    ]
    assert all(row["drop"] is None for row in ablation_rows(broken) if row.get("target") == "fr")
    to_json(ablation_rows(broken))
    assert " - " in ablation_text(broken, ("en", "fr", "zh"))
