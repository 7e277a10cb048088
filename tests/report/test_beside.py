"""Published numbers, beside measured ones and alone; across tasks, mixtures, winning tickets and clusters on pages."""

import csv
import random
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

import pytest

from lnsub.report import Made, published_report, report
from lnsub.report.published import MODELS
from lnsub.runs.records import append
from tests.support.report_page import cells, chart, data, panels, section, summary, words
from tests.support.report_tree import CHOSEN, matches, mixture_value, own_value, part_value, record, transfer_value

MBERT = "google-bert/bert-base-multilingual-cased"
SEEDS = (57, 58, 59)


@pytest.fixture(scope="module")
def rows(root: Path) -> list[dict[str, str]]:
    with (root / "lnsub" / "report" / "published" / "transfer.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["model"] == "mBERT" and row["table"] != "1"]


@pytest.fixture(scope="module")
def measured(rows: list[dict[str, str]]) -> dict[tuple[str, str, str, int], float]:
    """Values near the published ones: three seeds of NER and MLM, one of XNLI; a task, source, target and seed each."""
    rng, found = random.Random(5), {}
    for row in rows:
        for seed in SEEDS if row["task"] != "xnli" else SEEDS[:1]:
            value = float(row["value"]) * (1 + rng.gauss(0, 0.01)) / (1 if row["task"] == "mlm" else 100)
            found[row["task"], row["source"], row["target"], seed] = value
    return found


@pytest.fixture(scope="module")
def beside(measured: dict[tuple[str, str, str, int], float], tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("beside")
    records = []
    for (task, source, target, seed), value in measured.items():
        facts = {"model": MBERT, "seed": seed, "n": 2490}
        dense = {"sparsity": 0.0, "score": None}
        facts |= dense if source == "dense" else {"ticket": f"{source}{seed}"}
        records.append(record("transfer", task, None if source == "dense" else source, target, value, **facts))
    append(root / "results.jsonl", records)
    return report(root, root / "r.html")


def test_published_and_measured_stand_side_by_side(
    beside: Made, rows: list[dict[str, str]], measured: dict[tuple[str, str, str, int], float]
) -> None:
    there = data(beside, "beside_the_paper")
    found = {(r["task"], r["source"] or r["what"], r["target"]): r for r in there if r["what"] in {"ticket", "dense"}}
    assert len(found) == len(rows)
    for row in rows:
        own = found[row["task"], row["source"], row["target"]]
        values = [v for (*place, _), v in measured.items() if place == [row["task"], row["source"], row["target"]]]
        unit = 1 if row["task"] == "mlm" else 100
        assert float(own["published"]) == pytest.approx(float(row["value"]) / unit)
        assert float(own["measured"]) == pytest.approx(mean(values))
        difference = mean(values) - float(row["value"]) / unit
        assert float(own["difference"]) == pytest.approx(difference)
        if len(values) > 1:
            assert own["unit"] == "standard deviations over seeds"
            assert float(own["in_deviations"]) == pytest.approx(difference / stdev(values))
        else:
            assert own["unit"] == "binomial standard errors"
            (p,) = values
            assert float(own["in_deviations"]) == pytest.approx(difference / (p * (1 - p) / 2490) ** 0.5)


def test_the_maps_show_what_the_table_has(beside: Made) -> None:
    titles = panels(beside, "beside_the_paper")
    assert "XNLI: difference in binomial standard errors" in titles
    assert "NER: difference in standard deviations over seeds" in titles
    shown = cells(beside, titles["NER: measured less published, points"])
    rows = [r for r in data(beside, "beside_the_paper") if r["study"] == "NER" and r["what"] == "ticket"]
    dense = {("dense", r["target"]) for r in rows}
    assert {(r["source"], r["target"]) for r in rows} | dense == shown.keys()
    for r in rows:
        number = float(shown[r["source"], r["target"]].replace("\u2212", "-"))
        assert number == pytest.approx(100 * float(r["difference"]), abs=0.051)


def test_relative_drops_stand_beside_the_papers(beside: Made) -> None:
    rows = [r for r in data(beside, "beside_the_paper") if r["what"] == "relative drop"]
    drops = {r["source"]: r for r in rows if r["task"] == "mlm"}
    assert round(100 * float(drops["fa"]["published"]), 2) == 4.73
    ours = {r["source"]: r["drop"] for r in data(beside, "relative_drop") if r["task"] == "mlm"}
    assert {source: float(r["measured"]) for source, r in drops.items()} == pytest.approx(
        {source: float(drop) for source, drop in ours.items()}
    )


def test_other_models_have_no_such_section_but_findings(made: Made) -> None:
    said = words(section(made, "left-out"))
    assert all(f"{name} ({base})" in said for base, name in MODELS.items())
    verdicts = {r["number"]: r["verdict"] for r in data(made, "findings")}
    assert verdicts["5"] == "confirmed"
    assert verdicts["9"] != "not tested"


def test_tickets_of_other_tasks_are_held_against_the_tasks_own(made: Made) -> None:
    found = data(made, "across_tasks")
    assert {r["study"] for r in found} == {"XNLI"}
    for r in found:
        sparsity, language = float(r["sparsity"]), r["language"]
        worse = 0.12 if r["source_task"] == "random" else 0.03
        own = own_value("xnli", language, sparsity)
        assert float(r["difference"]) == pytest.approx(-100 * worse)
        judged = (r["criterion"], r["tolerance"], r["successful"])
        if r["source_task"] == "random":
            assert judged == ("no verdict", "", "")
        else:
            assert judged == ("non-inferior on the same examples", "0.01", str(matches("xnli", own - worse, own)))
    places = {(task, code) for task in ("wikiann", "random") for code in ("ar", "fr")}
    assert {(r["source_task"], r["language"]) for r in found} == places
    assert "XNLI NER tickets \u22123.0 points and random masks \u221212.0 points at 50 %" in summary(made)


def test_each_language_of_a_mixture_is_shown_and_counts_nowhere_else(made: Made) -> None:
    found = {(r["mixture"], r["language"], r["sparsity"]): float(r["value"]) for r in data(made, "mixture_parts")}
    assert found == {
        ("fr+ru", language, sparsity): pytest.approx(part_value(language, float(sparsity)))
        for language in ("fr", "ru")
        for sparsity in ("0.0", *map(str, CHOSEN))
    }
    for row in data(made, "metric_by_sparsity"):
        if row["study"] == "MLM":
            assert float(row["value"]) == pytest.approx(own_value("mlm", row["language"], float(row["sparsity"])))


def test_a_mixture_is_a_source_and_stands_beside_its_languages(made: Made) -> None:
    found = {(r["sparsity"], r["source"]): float(r["value"]) for r in data(made, "mixtures")}
    for sparsity in CHOSEN:
        expected = {s: transfer_value("mlm", s, "ur", sparsity) for s in ("fr", "ru")}
        expected |= {"own": own_value("mlm", "ur", sparsity), "fr+ru": mixture_value("ur", sparsity)}
        assert {s: found[str(sparsity), s] for s in expected} == pytest.approx(expected)
    assert "MLM fr+ru beats each of its languages on 1 of 1 targets at 50 %" in summary(made)
    shown = cells(made, panels(made, "transfer")["MLM, 50 % pruned: perplexity (lower is better)"])
    assert float(shown["fr+ru", "ur"]) == pytest.approx(mixture_value("ur", 0.5), abs=0.0051)


def test_the_sparsest_winning_ticket_of_each_language(made: Made) -> None:
    rounds, found = data(made, "metric_by_sparsity"), data(made, "winning_tickets")
    assert len(found) == 11
    for r in found:
        of_it = [x for x in rounds if (x["study"], x["language"]) == (r["study"], r["language"])]
        won = [x for x in of_it if x["matches"] == "True" and float(x["sparsity"]) > 0]
        best = max(won, key=lambda x: float(x["sparsity"]))
        assert (r["sparsity"], r["ticket"], r["criterion"]) == (best["sparsity"], best["value"], best["criterion"])
        lower = [x for x in of_it if 0 < float(x["sparsity"]) < float(r["sparsity"])]
        assert r["all_lower_win"] == str(all(x["matches"] == "True" for x in lower))
        task = {"NER": "wikiann"}.get(r["study"], r["study"].lower())
        if r["sparsity"] == "0.5":
            assert float(r["random"]) == pytest.approx(own_value(task, r["language"], 0.5, 0.12))
        else:
            assert r["random"] == ""


def test_heat_maps_are_in_the_order_of_the_clusters(made: Made) -> None:
    found = [r for r in data(made, "clusters") if (r["study"], r["sparsity"]) == ("NER", "0.5")]
    order = [r["language"] for r in found]
    assert sorted(order) == ["ar", "fr", "ru", "ur", "zh"]
    assert {r["stability"] for r in found} == {""}
    encoding = chart(made, panels(made, "overlap")["NER, 50 % pruned: overlap, %"])["layer"][0]["encoding"]
    assert encoding["x"]["sort"] == encoding["y"]["sort"] == order
    assert "their stability over seeds is unknown" in words(section(made, "overlap"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return published_report(tmp_path_factory.mktemp("published") / "p.html")


def test_the_published_page_draws_the_papers_tables_and_figures(published: Made, root: Path) -> None:
    assert published.left_out == ()
    titles = [words(f.find("figcaption")) for f in section(published, "transfer").iter("figure")]
    assert len(titles) == 8
    assert "XNLI (mT5), 50 % pruned: accuracy, %" in titles
    said = summary(published)
    for part in (
        "MLM (mBERT) 7.8 % (best fa, worst ru)",
        "XNLI (mT5) \u22121.4 % (best es, worst ur)",
        "NER (mBERT) en+fa+fr+zh beats each of its languages on 3 of 5 targets",
        "XNLI (mBERT) 30 % to 60 % (10 of 10 languages)",
        "mBERT: 1, 2, 3, 4, 6, 7 and 8 confirmed, 5 and 9 not tested",
    ):
        assert part in said
    with (root / "lnsub" / "report" / "published" / "across_tasks.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    place = itemgetter("target_task", "source_task", "language")
    figure = {place(r): float(r["difference"]) for r in rows}
    sign = {"mlm": -1, "wikiann": 1, "xnli": 1}
    shown = {place(r): sign[r["target_task"]] * float(r["difference"]) for r in data(published, "across_tasks")}
    assert shown == pytest.approx(figure)


def test_the_page_of_published_numbers_says_what_it_is(published: Made) -> None:
    text = published.page.read_text(encoding="utf-8")
    assert "The published numbers of Foroutan et al. (2022), means of three seeds" in text
    assert "the runs' own records" not in text.replace("&#x27;", "'")


def test_a_report_of_runs_does_not_replace_other_files_with_the_published_page(tmp_path: Path) -> None:
    from lnsub.common.errors import UserError

    (tmp_path / "p.html").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"p\.html"):
        published_report(tmp_path / "p.html")
