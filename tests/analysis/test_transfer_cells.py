import math
import random
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import pytest

from lnsub.analysis.main_metric import of_main_metric
from lnsub.analysis.transfer_cells import average, relative_drop, transfer_cells
from lnsub.runs.records import Record, append
from lnsub.runs.tree import read_runs
from tests.support.report_tree import record

LANGUAGES = ("ar", "fr", "ru", "zh")


def written(root: Path, records: list[Record]) -> pd.DataFrame:
    append(root / "runs" / "results.jsonl", records)
    return of_main_metric(read_runs(root))


def random_cells(missing: set[tuple[str, str]] = frozenset()) -> list[Record]:
    """Two tasks, one of them with a perplexity, two sparsities, and two seeds of each cell."""
    rng = random.Random(0)
    return [
        record(
            "transfer",
            task,
            source,
            target,
            rng.uniform(0.2, 0.9) * (20 if task == "mlm" else 1),
            sparsity=sparsity,
            seed=seed,
            ticket=f"{source}{seed}",
        )
        for task in ("xnli", "mlm")
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


def test_what_was_measured_twice_counts_once(tmp_path: Path) -> None:
    values = {57: (0.2, 0.2, 0.2), 58: (0.8,)}
    rows = [record("imp", "xnli", "fr", "fr", v, seed=seed) for seed, found in values.items() for v in found]
    (row,) = average(written(tmp_path, rows), ["task"]).to_dict("records")
    expected = {"value": 0.5, "lowest": 0.2, "highest": 0.8, "deviation": stdev((0.2, 0.8)), "runs": 2, "n": 1245}
    assert row.pop("examples") is None  # nothing was kept beside these records
    assert row == pytest.approx({"task": "xnli", **expected})


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
        assert cell["higher_is_better"] == (cell["task"] == "xnli")


def test_zero_shot_and_transfer_are_apart(tmp_path: Path) -> None:
    rows = [record(kind, "xnli", s, "fr", v) for kind, s, v in (("transfer", "fr", 0.8), ("zero_shot", "ru", 0.4))]
    frame = written(tmp_path, rows)
    (cell,) = transfer_cells(frame, "zero_shot").to_dict("records")
    assert math.isnan(cell["own"])
    assert math.isnan(cell["relative"])
    assert list(transfer_cells(frame)["source"]) == ["fr"]


def test_no_records_give_no_drops(tmp_path: Path) -> None:
    assert relative_drop(transfer_cells(read_runs(tmp_path))).empty


def test_relative_drop_is_the_definition_whichever_way_is_better(tmp_path: Path) -> None:
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
