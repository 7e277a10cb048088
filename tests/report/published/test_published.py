import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from lnsub.analysis.criteria import judged, successes
from lnsub.analysis.main_metric import main_metrics
from lnsub.analysis.mixtures import beats_parts, mixture_data
from lnsub.analysis.transfer_cells import relative_drop, transfer_cells
from lnsub.report import published


def rows_of(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "lnsub" / "report" / "published" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("model", "task", "average", "best", "worst"),
    [
        ("mBERT", "mlm", 7.76, ("fa", 4.73), ("ru", 9.22)),
        ("mBERT", "xnli", 0.09, ("en", 0.92), ("ur", -1.63)),
        ("mBERT", "wikiann", -1.40, ("ar", -1.20), ("ur", -1.53)),
        ("mT5", "xnli", -1.35, ("es", 0.29), ("ur", -5.56)),
    ],
)
def test_relative_drops_are_those_that_the_published_tables_give(
    model: str, task: str, average: float, best: tuple[str, float], worst: tuple[str, float]
) -> None:
    drops = relative_drop(transfer_cells(published.transfer()))
    of_it = drops[(drops["model"] == model) & (drops["task"] == task)].set_index("source")
    assert round(100 * of_it["drop"].mean(), 2) == average
    gains = of_it["drop"] * (1 if of_it["higher_is_better"].iloc[0] else -1)
    assert (gains.idxmax(), round(100 * of_it.loc[best[0], "drop"], 2)) == best
    assert (gains.idxmin(), round(100 * of_it.loc[worst[0], "drop"], 2)) == worst


def test_successful_transfers_are_counted(root: Path) -> None:
    cells = transfer_cells(published.transfer())
    cells = judged(cells, main_metrics(published.transfer()), published=True)
    counted = successes(cells, ["model", "task"]).set_index(["model", "task"])
    rows = [r for r in rows_of(root, "transfer.csv") if r["table"] != "1"]
    found = {(r["model"], r["task"], r["source"], r["target"]): float(r["value"]) for r in rows}
    for model in ("mBERT", "mT5"):
        inside = {(s, t): v for (m, task, s, t), v in found.items() if (m, task) == (model, "xnli")}
        expected = 0
        for (s, t), value in inside.items():
            own = inside.get((t, t), 0)
            if s not in {"dense", "random", t}:
                expected += value >= own - (own * (100 - own) / 2490) ** 0.5
        assert counted.loc[(model, "xnli"), ["successful", "transfers"]].tolist() == [expected, 90]
        assert counted.loc[(model, "xnli"), "criterion"] == "binomial standard error"
    assert counted.loc[("mBERT", "mlm"), ["successful", "transfers", "criterion"]].tolist() == [0, 110, "no tolerance"]
    assert counted.loc[("mBERT", "wikiann"), ["successful", "transfers"]].tolist() == [0, 72]


def test_the_mixture_beats_each_of_its_languages_on_three_of_five_targets(root: Path) -> None:
    found = mixture_data(transfer_cells(published.transfer(published.MIXTURE)))
    assert sum(beats_parts(found)) == 3
    rows = [r for r in rows_of(root, "transfer.csv") if r["table"] == "1"]
    of = {(r["source"], r["target"]): float(r["value"]) for r in rows}
    parts, targets = ("en", "fa", "fr", "zh"), ("ar", "de", "es", "ru", "ur")
    best = [of["en+fa+fr+zh", t] > max(of[s, t] for s in parts) for t in targets]
    assert beats_parts(found) == best
    own = found[found["source"] == "own"].set_index("target")["value"]
    assert own.to_dict() == pytest.approx({t: of["own", t] / 100 for t in ("ar", "de", "es", "ru", "ur")})
    drop = relative_drop(transfer_cells(published.transfer(published.MIXTURE))).set_index("source")
    terms = [of["en+fa+fr+zh", t] / of["own", t] - 1 for t in ("ar", "de", "es", "ru", "ur")]
    assert drop.loc["en+fa+fr+zh", "drop"] == pytest.approx(mean(terms))


def test_frames_are_shaped_like_records_and_lose_no_row(root: Path) -> None:
    from dataclasses import fields

    from lnsub.runs.records import Record

    cells = published.transfer()
    assert {field.name for field in fields(Record)} - {"lnsub_version", "time"} <= set(cells.columns)
    assert len(cells) + len(published.transfer(1)) == len(rows_of(root, "transfer.csv"))
    assert set(cells.loc[cells["variant"] == "random", "model"]) == {"mT5"}
    dense = cells[(cells["kind"] == "dense") & (cells["task"] == "xnli") & (cells["model"] == "mBERT")]
    assert dense.set_index("target")["value"]["en"] == pytest.approx(0.8216)
    assert set(cells.loc[cells["task"] == "mlm", "n"]) == {0}
    assert set(cells.loc[cells["task"] == "xnli", "n"]) == {2490}


def test_differences_across_tasks_take_the_metrics_own_sign() -> None:
    found = published.across_tasks().set_index(["target_task", "source_task", "language"])
    assert found.loc[("mlm", "random", "ar"), ["published", "change"]].tolist() == [-2.85, 2.85]
    assert found.loc[("xnli", "mlm", "en"), "change"] == pytest.approx(-0.0118)


def test_other_tables_are_read_in_records_units() -> None:
    winning = published.winning_tickets().set_index(["task", "language"])
    assert winning.loc[("xnli", "ur"), ["dense", "ticket", "sparsity"]].tolist() == pytest.approx([0.6306, 0.6313, 0.3])
    assert winning.loc[("mlm", "fa"), "random"] == pytest.approx(7.3315)
    means = {(r["task"], r["relation"]): r["value"] for r in published.overlap().to_dict("records")}
    assert means["wikiann", "seeds"] == pytest.approx(0.9866)
    assert means["mlm", "languages"] == pytest.approx(0.68)


def test_the_numbers_need_no_torch(root: Path) -> None:
    code = """
import sys
from lnsub.analysis import criteria, findings, mixtures, transfer_cells
from lnsub.report import published
published.transfer(), published.winning_tickets(), published.across_tasks(), published.overlap()
print([name for name in ("torch", "transformers", "lightning") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
