from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from lnsub.report import Made, Options, report
from lnsub.runs.records import append
from tests.support.report_page import data, panels, rows, section, summary, words
from tests.support.report_tree import CHOSEN, LANGUAGES, ablation_drop, record, write_ablation

SPOKEN = LANGUAGES["mlm"]


def number(text: str) -> float:
    return float(text.rstrip("*").replace("\u2212", "-"))


def drawn(made: Made, sparsity: float, what: str) -> list[dict]:
    title = f"MLM: magnitude, weights, {100 * sparsity:g} % pruned: {what}"
    return rows(made, panels(made, "ablation")[title])


def test_the_heat_map_has_each_drop_and_a_dot_where_it_is_beyond_random_removals(made: Made) -> None:
    for sparsity in CHOSEN:
        cells = {(row["row"], row["column"]): row for row in drawn(made, sparsity, "drop")}
        assert cells.keys() == {(s, t) for s in (*SPOKEN, "random") for t in SPOKEN}
        draws = np.array([sparsity * (0.02 + 0.01 * draw) for draw in range(3)])
        half = t.ppf(0.975, 2) * draws.std(ddof=1) * (1 + 1 / 3) ** 0.5
        for source in SPOKEN:
            for target in SPOKEN:
                drop = ablation_drop(source, target, sparsity)
                assert cells[source, target]["value"] == pytest.approx(drop, abs=1e-9)
                assert ("marked" in cells[source, target]) == (abs(drop - draws.mean()) > half)
                assert cells["random", target]["value"] == pytest.approx(draws.mean(), abs=1e-9)
        assert sum("marked" in row for row in cells.values()) in range(3, 9)


def test_the_table_has_a_star_where_the_chart_has_a_dot(made: Made) -> None:
    titles = panels(made, "ablation")
    (panel,) = (titles[title] for title in titles if "50 %" in title and title.endswith(": drop"))
    starred = {(row["row"], row["column"]) for row in rows(made, panel) if "marked" in row}
    table = next(e for e in section(made, "ablation").iter("table") if "50 %" in words(e[0]) and "drop" in words(e[0]))
    lines = [[words(cell) for cell in line] for line in table.find("tbody")]
    found = {
        (source, target)
        for source, line in zip((*SPOKEN, "random"), lines, strict=True)
        for target, text in zip(SPOKEN, line[1:], strict=True)
        if text.endswith("*")
    }
    assert found == starred


def test_own_language_others_and_random_removals_are_beside_each_other(made: Made) -> None:
    for sparsity in CHOSEN:
        bars = {(row["group"], row["series"]): row["value"] for row in drawn(made, sparsity, "own language and others")}
        for source in SPOKEN:
            others = [ablation_drop(source, target, sparsity) for target in SPOKEN if target != source]
            assert bars[source, "own language"] == pytest.approx(0.9 * sparsity, abs=1e-9)
            assert bars[source, "other languages, mean"] == pytest.approx(np.mean(others), abs=1e-9)
            assert bars[source, "own language, random removals"] == pytest.approx(0.03 * sparsity, abs=1e-9)
    of_half = [row for row in data(made, "ablation_overall") if row["sparsity"] == "0.5"]
    excess = [0.45 - np.mean([ablation_drop(s, o, 0.5) for o in SPOKEN if o != s]) for s in SPOKEN]
    half = t.ppf(0.975, 2) * np.std(excess, ddof=1) / 3**0.5
    (row,) = of_half
    assert float(row["excess"]) == pytest.approx(np.mean(excess))
    assert float(row["excess_low"]) == pytest.approx(np.mean(excess) - half)
    assert float(row["excess_high"]) == pytest.approx(np.mean(excess) + half)
    assert "the own language loses most in 3 of 3" in summary(made)


def test_the_caption_says_what_the_interval_is_and_which_seeds(made: Made) -> None:
    text = words(section(made, "ablation"))
    assert "95 % prediction interval by Student's t over the random removals" in text
    assert "Seeds: 1 (57); so nothing is known of the spread over seeds." in text


def test_a_share_falls_in_points_and_one_draw_gives_no_interval(tmp_path: Path) -> None:
    found = [record("ablation", "xnli", None, t, 0.7, removed="none", fill="zero", units=0) for t in ("fr", "ru")]
    facts = {"removed": "kept", "fill": "mean", "units": 3, "granularity": "head", "sparsity": 0.9}
    found += [record("ablation", "xnli", "fr", t, v, ticket="a", **facts) for t, v in (("fr", 0.5), ("ru", 0.65))]
    facts |= {"removed": "random", "drawn_for": "kept", "draw": 0}
    found += [record("ablation", "xnli", "fr", t, 0.69, ticket="a", **facts) for t in ("fr", "ru")]
    append(tmp_path / "runs" / "results.jsonl", found)
    made = report(tmp_path / "runs", tmp_path / "r.html", Options())
    (title,) = (title for title in panels(made, "ablation") if title.endswith("drop"))
    assert title == "XNLI: magnitude, heads, filled by their mean, 90 % pruned: drop"
    values = {(row["row"], row["column"]): row["value"] for row in rows(made, panels(made, "ablation")[title])}
    assert values == pytest.approx({("fr", "fr"): 20, ("fr", "ru"): 5, ("random", "fr"): 1, ("random", "ru"): 1})
    (row,) = data(made, "ablation_own")
    assert (float(row["difference"]), row["low"], row["beyond"]) == (pytest.approx(0.15), "", "False")


def test_without_the_dense_model_there_is_no_drop(tmp_path: Path) -> None:
    write_ablation(tmp_path / "runs")
    path = tmp_path / "runs" / "ablation" / "results.jsonl"
    path.write_text("".join(line for line in path.open() if '"none"' not in line))
    made = report(tmp_path / "runs", tmp_path / "r.html")
    assert any("Ablation" in title for title in made.left_out)
