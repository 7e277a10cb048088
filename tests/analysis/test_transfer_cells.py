import math
import random
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lnsub.analysis.transfer_cells import (
    MAIN_METRIC,
    average,
    correlation,
    main_metric,
    read_frame,
    relative_drop,
    transfer_cells,
)
from lnsub.runs.records import Record, append, read_tree
from tests.support.report_tree import record

LANGUAGES = ("ar", "fr", "ru", "zh")


def written(root: Path, records: list[Record]) -> pd.DataFrame:
    append(root / "runs" / "results.jsonl", records)
    return read_frame(root)


def random_cells(missing: set[tuple[str, str]] = frozenset()) -> list[Record]:
    """Two tasks, two sparsities, two seeds of each cell, and what the figures must leave aside."""
    rng = random.Random(0)
    return [
        record(
            "transfer",
            task,
            source,
            target,
            rng.uniform(0.2, 0.9),
            sparsity=sparsity,
            seed=seed,
            ticket=f"{source}{seed}",
        )
        for task in ("xnli", "wikiann")
        for sparsity in (0.5, 0.8)
        for source in LANGUAGES
        for target in LANGUAGES
        for seed in (57, 58)
        if (source, target) not in missing
    ]


def plain_drop(records: list[Record], task: str, sparsity: float, source: str) -> float:
    """The definition, in plain Python: the mean over other targets of (m(s,t) - m(t,t)) / m(t,t)."""

    def m(s: str, t: str) -> float:
        return mean(r.value for r in records if (r.task, r.sparsity, r.source, r.target) == (task, sparsity, s, t))

    others = [t for t in LANGUAGES if t != source]
    return sum((m(source, t) - m(t, t)) / m(t, t) for t in others) / (len(LANGUAGES) - 1)


def test_the_frame_holds_every_record_of_the_tree_and_its_folder(tmp_path: Path) -> None:
    records = random_cells()
    append(tmp_path / "a" / "b" / "results.jsonl", records[:5])
    append(tmp_path / "c" / "results.jsonl", records[5:])
    frame = read_frame(tmp_path)
    there = [vars(r) for r in read_tree(tmp_path)]
    found = frame.drop(columns="run").astype(object).where(frame.drop(columns="run").notna(), None).to_dict("records")
    assert found == there
    assert list(frame["run"]) == ["a/b"] * 5 + ["c"] * (len(records) - 5)


def test_an_empty_tree_gives_a_frame_with_all_columns(tmp_path: Path) -> None:
    frame = read_frame(tmp_path)
    assert frame.empty
    assert {"run", "kind", "layer", "value"} <= set(frame.columns)
    assert relative_drop(transfer_cells(frame)).empty


def test_sparsities_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    frame = written(tmp_path, [record("imp", "xnli", "fr", "fr", 0.5, sparsity=s) for s in (0.3, 0.1 + 0.2)])
    assert frame["sparsity"].nunique() == 1


def test_main_metrics_are_those_of_the_tasks() -> None:
    from lnsub.tasks.mlm import MLMTask
    from lnsub.tasks.wikiann import WikiANNTask
    from lnsub.tasks.xnli import XNLITask

    assert {task.name: task.metric for task in (XNLITask, WikiANNTask, MLMTask)} == MAIN_METRIC


def test_the_main_metric_of_an_unknown_task_is_accuracy_or_the_first_one(tmp_path: Path) -> None:
    rows = [record("imp", "qa", "fr", "fr", 0.5, metric=m) for m in ("exact", "accuracy")]
    rows += [record("imp", "sts", "fr", "fr", 0.5, metric=m) for m in ("rho", "r")]
    rows += [record("imp", "wikiann", "fr", "fr", 0.5, metric=m) for m in ("precision", "f1")]
    found = main_metric(written(tmp_path, rows))
    assert dict(zip(found["task"], found["metric"], strict=True)) == {"qa": "accuracy", "sts": "rho", "wikiann": "f1"}


def test_what_was_measured_twice_counts_once(tmp_path: Path) -> None:
    values = {57: (0.2, 0.2, 0.2), 58: (0.8,)}
    rows = [record("imp", "xnli", "fr", "fr", v, seed=seed) for seed, found in values.items() for v in found]
    (row,) = average(written(tmp_path, rows), ["task"]).to_dict("records")
    assert row == pytest.approx({"task": "xnli", "value": 0.5, "lowest": 0.2, "highest": 0.8, "runs": 2, "n": 1245})


def test_cells_are_held_against_the_targets_own(tmp_path: Path) -> None:
    records = random_cells()
    cells = transfer_cells(written(tmp_path, records))
    assert len(cells) == 2 * 2 * 16
    for cell in cells.to_dict("records"):
        near = [
            r for r in records if (r.task, r.sparsity, r.target) == (cell["task"], cell["sparsity"], cell["target"])
        ]
        value = mean(r.value for r in near if r.source == cell["source"])
        own = mean(r.value for r in near if r.source == cell["target"])
        assert (cell["value"], cell["own"], cell["runs"]) == pytest.approx((value, own, 2))
        assert (cell["change"], cell["relative"]) == pytest.approx((value - own, (value - own) / own))


def test_zero_shot_and_transfer_are_apart(tmp_path: Path) -> None:
    rows = [record(kind, "xnli", s, "fr", v) for kind, s, v in (("transfer", "fr", 0.8), ("zero_shot", "ru", 0.4))]
    frame = written(tmp_path, rows)
    (cell,) = transfer_cells(frame, "zero_shot").to_dict("records")
    assert math.isnan(cell["own"])
    assert math.isnan(cell["relative"])
    assert list(transfer_cells(frame)["source"]) == ["fr"]


def test_relative_drop_is_the_definition(tmp_path: Path) -> None:
    records = random_cells()
    drops = relative_drop(transfer_cells(written(tmp_path, records)))
    assert len(drops) == 2 * 2 * len(LANGUAGES)
    for row in drops.to_dict("records"):
        assert row["drop"] == pytest.approx(plain_drop(records, row["task"], row["sparsity"], row["source"]))
        assert row["lowest"] <= row["drop"] <= row["highest"]
        assert (row["targets"], row["missing"]) == (3, "")


def test_relative_drop_says_which_cells_are_missing(tmp_path: Path) -> None:
    cells = transfer_cells(written(tmp_path, random_cells(missing={("fr", "ru"), ("zh", "zh")})))
    drops = relative_drop(cells).set_index(["task", "sparsity", "source"])
    assert drops.loc[("xnli", 0.5, "fr"), ["targets", "missing"]].tolist() == [1, "ru;zh"]
    assert drops.loc[("xnli", 0.5, "zh"), ["targets", "missing"]].tolist() == [3, ""]
    assert drops.loc[("xnli", 0.5, "ar"), ["targets", "missing"]].tolist() == [2, "zh"]


def test_a_metric_of_zero_has_no_relative_drop(tmp_path: Path) -> None:
    rows = [record("transfer", "xnli", s, t, 0.0 if s == t else 0.1) for s in ("fr", "ru") for t in ("fr", "ru")]
    assert relative_drop(transfer_cells(written(tmp_path, rows))).empty


# Correlations -------------------------------------------------------------------------------------------------------


def plain_pearson(x: list[float], y: list[float]) -> float:
    a, b = mean(x), mean(y)
    top = sum((p - a) * (q - b) for p, q in zip(x, y, strict=True))
    return top / math.sqrt(sum((p - a) ** 2 for p in x) * sum((q - b) ** 2 for q in y))


def plain_ranks(values: list[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def pairs_with_values(languages: tuple[str, ...]) -> tuple[list[float], list[float], list[tuple[str, str]]]:
    rng = random.Random(1)
    pairs = [(s, t) for s in languages for t in languages if s != t]
    x = [round(rng.uniform(0.5, 0.9), 1) for _ in pairs]  # rounded, so that there are ties
    return x, [0.5 * value + rng.uniform(-0.1, 0.1) for value in x], pairs


def test_correlations_equal_their_formulas_with_fishers_interval() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    pearson, spearman = correlation(x, y, pairs, resamples=0)
    assert pearson["value"] == pytest.approx(plain_pearson(x, y))
    assert spearman["value"] == pytest.approx(plain_pearson(plain_ranks(x), plain_ranks(y)))
    low, high = stats.pearsonr(x, y).confidence_interval()
    assert (pearson["fisher_low"], pearson["fisher_high"]) == pytest.approx((low, high))
    r = spearman["value"]
    half = 1.959964 * math.sqrt((1 + r * r / 2) / (len(x) - 3))
    expected = (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
    assert (spearman["fisher_low"], spearman["fisher_high"]) == pytest.approx(expected)
    assert (pearson["pairs"], pearson["languages"], pearson["bootstrap_low"]) == (12, 4, None)


def test_the_bootstrap_draws_languages() -> None:
    x, y, pairs = pairs_with_values(LANGUAGES)
    rows = correlation(x, y, pairs, resamples=200, seed=3)
    rng, found = np.random.default_rng(3), {"pearson": [], "spearman": []}
    while len(found["pearson"]) < 200:
        drawn = [LANGUAGES[i] for i in rng.integers(0, 4, 4)]
        if len(set(drawn)) < 3:
            continue
        often = [drawn.count(s) * drawn.count(t) for s, t in pairs]
        a = [value for value, n in zip(x, often, strict=True) for _ in range(n)]
        b = [value for value, n in zip(y, often, strict=True) for _ in range(n)]
        found["pearson"].append(plain_pearson(a, b))
        found["spearman"].append(plain_pearson(plain_ranks(a), plain_ranks(b)))
    for row in rows:
        low, high = np.percentile(found[row["coefficient"]], [2.5, 97.5])
        assert (row["bootstrap_low"], row["bootstrap_high"]) == pytest.approx((low, high))


def test_what_does_not_vary_or_is_too_little_has_no_correlation() -> None:
    pairs = [("a", "b"), ("b", "a"), ("a", "c")]
    assert [row["value"] for row in correlation([0.1] * 3, [1, 2, 3], pairs)] == [None, None]
    (pearson, _) = correlation([1, 2], [1, 2], pairs[:2])
    assert (pearson["value"], pearson["fisher_low"], pearson["bootstrap_low"]) == (None, None, None)
    (pearson, spearman) = correlation([1, 2, 3], [1, 2, 4], pairs)
    assert (spearman["value"], pearson["fisher_low"]) == (pytest.approx(1), None)
    assert [row["value"] for row in correlation([], [], [])] == [None, None]


def test_a_perfect_correlation_has_an_interval_of_one_point() -> None:
    _, _, pairs = pairs_with_values(LANGUAGES)
    x = [float(i) for i in range(len(pairs))]
    pearson, _ = correlation(x, x, pairs, resamples=50)
    assert (pearson["fisher_low"], pearson["bootstrap_low"], pearson["bootstrap_high"]) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("x", "y", "pairs", "said"),
    [
        ([1, 2], [1], [("a", "b"), ("b", "a")], "2 and 1 values for 2 pairs"),
        ([1, math.nan], [1, 2], [("a", "b"), ("b", "a")], "finite values"),
        ([1, 2], [1, 2], [("a", "b"), ("a", "a")], "pairs of two languages"),
    ],
)
def test_a_correlation_refuses_what_it_is_not_of(x, y, pairs, said) -> None:
    with pytest.raises(ValueError, match=said):
        correlation(x, y, pairs)
