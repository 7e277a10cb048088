from pathlib import Path
from statistics import mean

import pytest

from lnsub.report import Made, report
from lnsub.report.figures.recovered import LINES
from lnsub.runs.records import append
from tests.support.report_page import data, panels, rows, section, summary, words
from tests.support.report_tree import CHOSEN, LANGUAGES, inherited_ticket, own_value, record, transfer_value


def share(task: str, sparsity: float) -> float:
    """From the tree's own formulas: what foreign tickets gain, over what own ones do."""
    languages = LANGUAGES[task]
    inherited = {t: own_value(task, t, sparsity, 0.03) for t in languages}
    foreign = [transfer_value(task, s, t, sparsity) - inherited[t] for t in languages for s in languages if s != t]
    own = [own_value(task, t, sparsity) - inherited[t] for t in languages]
    return mean(foreign) / mean(own)


def test_the_share_of_each_sparsity_is_in_table_drawing_and_summary(made: Made) -> None:
    found = {(r["study"], float(r["sparsity"])): r for r in data(made, "recovered_share")}
    titles = {"xnli": "XNLI", "wikiann": "NER", "mlm": "MLM"}
    for task, study in titles.items():
        drawn = rows(made, panels(made, "recovered_share")[f"{study}: recovered share"])
        for sparsity in CHOSEN:
            expected = share(task, sparsity)
            assert float(found[study, sparsity]["share"]) == pytest.approx(expected)
            (point,) = (r for r in drawn if r["x"] == sparsity and r["series"] == "recovered share")
            assert point["y"] == pytest.approx(expected)
            assert point["low"] <= expected <= point["high"]
            written = f"{expected:.2f}".replace("-", "\u2212")
            assert written in words(section(made, "recovered_share"))
            assert written in summary(made)
    changes = {r["study"]: float(r["change"]) for r in data(made, "recovered_changes")}
    assert changes["NER"] == pytest.approx(share("wikiann", 0.8) - share("wikiann", 0.5))
    assert len([r for r in data(made, "recovered_cells") if r["study"] == "NER"]) == 2 * 20


def test_all_baselines_stand_beside_own_and_foreign_tickets(made: Made) -> None:
    titles = panels(made, "recovered_share")
    (panel,) = (panel for title, panel in titles.items() if title.startswith("NER: F1"))
    drawn = rows(made, panel)
    assert {r["series"] for r in drawn} == set(LINES.values())
    worse = {"own ticket": 0.0, "inherited mask": 0.03, "one-shot mask": 0.01, "shuffled ticket": 0.05}
    for name, less in worse.items():
        (point,) = (r for r in drawn if r["series"] == name and r["x"] == 0.5)
        expected = mean(own_value("wikiann", t, 0.5, less) for t in LANGUAGES["wikiann"])
        assert point["y"] == pytest.approx(100 * expected)


def test_without_inherited_masks_the_page_says_what_makes_them(small: Path, tmp_path: Path) -> None:
    made = report(small, tmp_path / "r.html")
    assert "lnsub transfer --baselines inherited" in words(section(made, "left-out"))


def test_tickets_of_shuffled_labels_are_no_foreign_tickets(tmp_path: Path) -> None:
    def cells(source: str | None, target: str, value: float, **facts: object) -> None:
        append(tmp_path / "results.jsonl", [record("transfer", "wikiann", source, target, value, **facts)])

    mask = {"ticket": inherited_ticket(0.5).checksum, "score": "magnitude_init", "source_task": "inherited"}
    for target in ("ar", "fr"):
        cells(None, target, 0.4, **mask)
        for source in ("ar", "fr"):
            cells(source, target, 0.6 if source == target else 0.5, ticket="a" * 64)
            cells(source, target, 0.1, ticket="b" * 64, source_condition="shuffled")
    made = report(tmp_path, tmp_path / "r.html")
    (row,) = data(made, "recovered_share")
    assert float(row["share"]) == pytest.approx(0.5)
    assert row["interval"] == "it takes 3 languages, here 2"
