import csv
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.report import Made, Options, report
from lnsub.report.build import TABLES
from lnsub.report.languages import NAMES, html_label
from lnsub.runs.records import append
from lnsub.tickets.ticket import Ticket
from tests.support.report_tree import (
    CHOSEN,
    LANGUAGES,
    LEVELS,
    MODEL,
    N,
    imp_ticket,
    inherited_ticket,
    own_value,
    record,
    theta_0,
    transfer_value,
    write_imp,
    write_tree,
)
from tests.support.ticket_factory import kept_set, ticket


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("tree") / "runs")


@pytest.fixture(scope="module")
def made(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return report(tree, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for language in ("ar", "fr"):
        write_imp(root, "wikiann", language)
    return root


def document(made: Made) -> ET.Element:
    """The page as a tree; that it parses as XML says that all its elements are closed."""
    return ET.fromstring(made.page.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>\n"))


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def section(made: Made, name: str) -> ET.Element:
    return next(e for e in document(made).iter("section") if e.get("id") == name)


def summary(made: Made) -> str:
    return words(next(e for e in document(made).iter() if e.get("id") == "summary"))


def data(made: Made, name: str) -> list[dict[str, str]]:
    with made.page.with_name(f"{made.page.stem}.{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells(panel: ET.Element) -> dict[tuple[str, str], str]:
    """The numbers of a heat map by row and column, as its tooltips and its texts say."""
    found = {}
    for group in panel.iter("g"):
        place, _, value = group.find("title").text.rpartition(": ")
        assert group.find("text").text == value
        found[tuple(place.split(" → "))] = value
    return found


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_beside_itself(made: Made) -> None:
    text = made.page.read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    loaded = [
        (e.tag, e.get(name))
        for e in document(made).iter()
        for name in ("src", "href", "data", "srcset", "action", "poster")
        if e.get(name) and e.tag != "a"
    ]
    assert loaded == [("link", "data:,")]
    assert not [e.tag for e in document(made).iter() if e.tag in {"script", "iframe", "img", "object", "embed", "base"}]
    assert not re.search(r"url\(|@import|@font-face", text)
    links = {e.get("href") for e in document(made).iter("a") if not e.get("href").startswith("#")}
    outside = {link for link in links if ":" in link}
    assert links - outside == {path.name for path in made.data}
    assert outside <= {"https://aclanthology.org/2022.emnlp-main.513/", "https://arxiv.org/abs/1803.03635"}


def test_every_figure_is_drawn_linked_and_has_its_data(made: Made) -> None:
    assert made.left_out == ()
    sections = {e.get("id"): e for e in document(made).iter("section")}
    assert {path.name.removeprefix("report.").removesuffix(".csv") for path in made.data} == TABLES
    for name in TABLES - {"correlations", "neutrality"}:
        drawings = list(sections[name].iter("figure"))
        assert drawings
        assert all(next(f.iter("svg")).get("aria-label") for f in drawings), name
    anchors = {e.get("href") for e in document(made).iter("a") if e.get("href").startswith("#")}
    assert anchors == {f"#{name}" for name in sections.keys() - {"runs", "left-out"}}
    for path in made.data:
        assert not pd.read_csv(path).empty


def test_figures_without_data_are_named_with_the_reason_and_leave_no_file(tmp_path: Path) -> None:
    write_imp(tmp_path / "runs", "xnli", "fr")
    output = tmp_path / "out" / "my.report.html"
    stale, foreign = output.with_name("my.report.transfer.csv"), output.with_name("my.report.notes.csv")
    output.parent.mkdir()
    for path in (stale, foreign):
        path.write_text("old", encoding="utf-8")
    made = report(tmp_path / "runs", output)
    assert made.drawn == ("Metric against sparsity", "Where pruning took the weights from")
    said = words(section(made, "left-out"))
    for title in made.left_out:
        assert f"{title}: not drawn, as " in said
    assert "`" not in said
    assert "lnsub transfer --zero-shot makes them" in said
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "my.report.html",
        "my.report.metric_by_sparsity.csv",
        "my.report.notes.csv",
        "my.report.pruned_where.csv",
    ]


def test_languages_are_named_in_their_own_direction(made: Made) -> None:
    names = {(e.get("lang"), e.get("dir"), e.text) for e in document(made).iter("bdi")}
    assert {("ar", "rtl", "العربية"), ("ur", "rtl", NAMES["ur"]), ("zh", "ltr", "中文")} <= names
    assert html_label("qqq") == "qqq"
    rows = {t.text for t in section(made, "transfer").iter("text")}
    assert f"\u2068{NAMES['ar']}\u2069 ar" in rows


def test_the_runs_are_listed_with_what_differs_and_what_they_share(made: Made) -> None:
    table, shared = section(made, "runs").iter("table")
    head, *rows = [[words(cell) for cell in row] for row in table.iter("tr")]
    by_run = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert by_run["wikiann/fr/seed58"]["measured"] == "10 \u00d7 imp"
    assert by_run["wikiann/fr/seed58"]["data"] == "wikiann"
    assert by_run["transfer/xnli"]["measured"] == "45 \u00d7 transfer, 18 \u00d7 zero_shot"
    assert by_run["transfer/xnli"]["sparsity, %"] == "0 to 80"
    settings = dict([words(cell) for cell in row] for row in shared.iter("tr"))
    assert settings["learning_rate"] in {"2e-05", "2.0e-05"}
    assert settings["IMPCallback.sparsities"] == "[0.1, 0.9]"
    assert "language" not in settings


# Figures -------------------------------------------------------------------------------------------------------------


def test_the_best_sparsity_is_the_highest_within_one_standard_error(made: Made) -> None:
    for task, study in (("xnli", "XNLI"), ("wikiann", "NER"), ("mlm", "MLM")):
        for language in LANGUAGES[task]:
            dense = own_value(task, language, 0)
            error = math.sqrt(dense * (1 - dense) / N[task])
            best = max(s for s in LEVELS if own_value(task, language, s) >= dense - error)
            rows = [r for r in data(made, "metric_by_sparsity") if (r["study"], r["language"]) == (study, language)]
            assert [float(r["sparsity"]) for r in rows if r["best"] == "True"] == [best]
            assert {float(r["dense"]) for r in rows} == {dense}
    rings = [e for e in section(made, "metric_by_sparsity").iter("circle") if e.get("class", "").startswith("ring ")]
    assert len(rings) == sum(map(len, LANGUAGES.values()))


def test_a_tolerance_takes_the_place_of_the_standard_error(small: Path, tmp_path: Path) -> None:
    made = report(small, tmp_path / "r.html", Options(tolerance=0.2))
    rows = [r for r in data(made, "metric_by_sparsity") if r["best"] == "True"]
    assert {r["sparsity"] for r in rows} == {"0.9"}
    assert "no further below than 20 points" in words(section(made, "metric_by_sparsity"))
    made = report(small, tmp_path / "r.html", Options(tolerance=0.0))
    assert "NER: tickets match the dense model up to 40 % on ar and fr." in words(section(made, "metric_by_sparsity"))


def test_transfer_heat_maps_hold_the_cells_and_their_change(made: Made) -> None:
    titles = {words(f.find("figcaption")): f for f in section(made, "transfer").iter("figure")}
    assert len(titles) == 3 * 2 * 2
    for sparsity in CHOSEN:
        at = f"NER, {100 * sparsity:g} % pruned"
        absolute, change = cells(titles[f"{at}: F1, %"]), cells(titles[f"{at}: change, points"])
        languages = LANGUAGES["wikiann"]
        assert absolute.keys() == {(s, t) for s in languages for t in languages}
        assert change.keys() == {(s, t) for s in languages for t in languages if s != t}
        for (s, t), shown in absolute.items():
            value = transfer_value("wikiann", s, t, sparsity)
            assert float(shown) == pytest.approx(100 * value, abs=0.051)
            if s != t:
                drop = 100 * (value - own_value("wikiann", t, sparsity))
                assert float(change[s, t].replace("\u2212", "-")) == pytest.approx(drop, abs=0.051)
    rows = [r for r in data(made, "transfer") if r["study"] == "XNLI"]
    assert len(rows) == 2 * 9
    for r in rows:
        value = transfer_value("xnli", r["source"], r["target"], float(r["sparsity"]))
        assert float(r["value"]) == pytest.approx(value, abs=1e-12)


def test_the_relative_drop_is_drawn_as_defined(made: Made) -> None:
    for r in data(made, "relative_drop"):
        task = {"NER": "wikiann"}.get(r["study"], r["study"].lower())
        s, sparsity = r["source"], float(r["sparsity"])
        terms = [
            transfer_value(task, s, t, sparsity) / own_value(task, t, sparsity) - 1 for t in LANGUAGES[task] if t != s
        ]
        assert float(r["drop"]) == pytest.approx(sum(terms) / len(terms))
    shown = [e.text for e in section(made, "relative_drop").iter("text") if e.text.startswith("\u2212")]
    expected = [f"\u2212{-100 * float(r['drop']):.1f}" for r in data(made, "relative_drop")]
    assert sorted(shown) == sorted(expected)


def test_baselines_stand_beside_tickets(made: Made) -> None:
    rows = {
        (r["variant"], r["target"]): float(r["value"])
        for r in data(made, "baselines")
        if r["study"] == "NER" and r["sparsity"] in {"0.5", "0.0"}
    }
    own = own_value("wikiann", "fr", 0.5)
    others = [transfer_value("wikiann", s, "fr", 0.5) for s in LANGUAGES["wikiann"] if s != "fr"]
    expected = {"own": own, "others": sum(others) / 4, "dense": own_value("wikiann", "fr", 0)}
    expected |= {"shuffled": own - 0.05, "oneshot": own - 0.01, "random": own - 0.12, "reinit": own - 0.3}
    assert {variant: rows[variant, "fr"] for variant in expected} == pytest.approx(expected)
    assert {variant for variant, _ in rows} == expected.keys()


def masks(found: Ticket) -> set[tuple[str, int]]:
    unpacked = {
        name: np.unpackbits(found.masks[name], count=144, bitorder="little").astype(bool) for name in found.masks
    }
    return kept_set(unpacked)


def test_overlap_and_departure_matrices_equal_plain_sets(made: Made) -> None:
    titles = {words(f.find("figcaption")): f for f in section(made, "overlap").iter("figure")}
    kept = {code: masks(imp_ticket("xnli", code, 57, 0.5)) for code in LANGUAGES["xnli"]}
    inherited = masks(inherited_ticket(0.5))
    overlap, departures = (
        cells(titles["XNLI, 50 % pruned: overlap, %"]),
        cells(titles["XNLI, 50 % pruned: departures, %"]),
    )
    assert len(overlap) == len(departures) == 6
    for s, t in overlap:
        a, b = kept[s], kept[t]
        assert float(overlap[s, t]) == pytest.approx(100 * len(a & b) / len(a | b), abs=0.051)
        a, b = a ^ inherited, b ^ inherited
        assert float(departures[s, t]) == pytest.approx(100 * len(a & b) / len(a | b), abs=0.051)


def test_the_sparsity_of_each_matrix_is_counted(made: Made) -> None:
    kept = [masks(imp_ticket("mlm", code, 57, 0.8)) for code in LANGUAGES["mlm"]]
    name = "encoder.layer.1.attention.output.dense.weight"
    pruned = [1 - sum(n == name for n, _ in mask) / 144 for mask in kept]
    panel = next(f for f in section(made, "pruned_where").iter("figure") if "MLM, 80" in words(f.find("figcaption")))
    shown = cells(panel)
    assert len(shown) == 3 * 6
    assert float(shown["1", "attention output"]) == pytest.approx(100 * sum(pruned) / 3, abs=0.051)


def test_without_inherited_masks_departures_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    for code in ("fr", "ru"):
        write_imp(tmp_path, "mlm", code, levels=(0.5,))
    made = report(tmp_path, tmp_path / "r.html")
    assert "Departures are not drawn, as there are no inherited masks" in words(section(made, "overlap"))
    assert "departure_overlap" not in data(made, "overlap")[0]
    assert len(list(section(made, "overlap").iter("figure"))) == 1


def test_inherited_masks_can_be_made_from_the_base_model(tmp_path: Path) -> None:
    from lnsub.models.inherited import Theta0
    from tests.support.models import save_checkpoint

    base = save_checkpoint(tmp_path / "base", ["a", "b"])
    theta = Theta0.load(str(base))
    facts = {"base_model": str(base), "base_fingerprint": theta.fingerprint, "task": "mlm", "sparsity": 0.5}
    for place, code in enumerate(("fr", "ru", "ur")):
        rng = np.random.default_rng(place)
        moved = {name: np.abs(w + 0.01 * rng.standard_normal(w.shape)) for name, w in theta.items()}
        threshold = np.median(np.concatenate([w.ravel() for w in moved.values()]))
        ticket({n: w > threshold for n, w in moved.items()}, language=code, **facts).save(
            tmp_path / f"runs/{code}.safetensors"
        )
    made = report(tmp_path / "runs", tmp_path / "r.html", inherited_from="")
    rows = data(made, "overlap")
    assert len(rows) == 3
    assert all(0 < float(r["null"]) < 1 and float(r["departure_overlap"]) > 0 for r in rows)
    assert "independent departures would overlap" in words(section(made, "overlap"))
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="--inherited BASE_MODEL"):
        report(tmp_path / "runs", tmp_path / "r.html", inherited_from="")


def test_points_join_overlap_and_transfer_and_carry_the_correlation(made: Made) -> None:
    rows = [r for r in data(made, "overlap_against_transfer") if (r["study"], r["sparsity"]) == ("NER", "0.8")]
    assert len(rows) == 20
    kept = {(code, 57): masks(imp_ticket("wikiann", code, 57, 0.8)) for code in LANGUAGES["wikiann"]}
    kept |= {(code, 58): masks(imp_ticket("wikiann", code, 58, 0.8)) for code in ("fr", "ur")}
    for r in rows:
        seeds = [k for k in (57, 58) if {(r["source"], k), (r["target"], k)} <= kept.keys()]
        both = [(kept[r["source"], k], kept[r["target"], k]) for k in seeds]
        overlaps = [len(a & b) / len(a | b) for a, b in both]
        assert float(r["overlap"]) == pytest.approx(sum(overlaps) / len(overlaps))
    (found,) = [
        r
        for r in data(made, "correlations")
        if (r["study"], r["sparsity"], r["measure"], r["coefficient"]) == ("NER", "0.8", "overlap", "pearson")
    ]
    frame = pd.DataFrame(rows)[["overlap", "relative"]].astype(float)
    assert float(found["value"]) == pytest.approx(frame.corr().iloc[0, 1])
    value = f"{float(found['value']):.2f}".replace("-", "\u2212")
    assert f"NER at 80 %: over 20 pairs, overlap and transfer correlate by r = {value}" in words(
        section(made, "overlap_against_transfer")
    )


def test_retrieval_is_drawn_by_layer_for_the_dense_model_and_for_tickets(made: Made) -> None:
    captions = [words(f.find("figcaption")) for f in section(made, "retrieval_by_layer").iter("figure")]
    assert captions == [
        "Dense model, each language with English (mean/ratio-4)",
        "NER tickets, mean over languages (mean/ratio-4)",
    ]
    rows = [r for r in data(made, "retrieval_by_layer") if (r["system"], r["target"]) == ("dense", "fr")]
    assert [float(r["value"]) for r in rows] == pytest.approx([0.25 + 0.1 * k * (3.4 - k) for k in range(4)])
    assert {r["chance"] for r in rows} == {"0.002"}
    assert "the dense model in layer 2" in summary(made)


# Words ---------------------------------------------------------------------------------------------------------------


def test_the_summary_says_what_the_numbers_say(made: Made) -> None:
    said = summary(made)
    assert "XNLI 60 %; NER 50 % to 60 %; MLM 60 % to 70 %" in said
    changes = [-2 * 0.5 * (1 + abs(i - j)) for i in range(5) for j in range(5) if i != j]
    assert f"NER \u2212{-sum(changes) / len(changes):.1f} points at 50 %" in said
    order = re.search(r"At 50 %, in order: (.*?\))\.", words(section(made, "overlap_by_sparsity")))
    means = {r["study"]: float(r["overlap"]) for r in data(made, "overlap_by_sparsity") if r["sparsity"] == "0.5"}
    assert re.findall(r"[A-Z]{3,4}", order[1]) == sorted(means, key=means.get, reverse=True)


def test_the_summary_changes_with_the_numbers(tmp_path: Path) -> None:
    def of(values: dict[tuple[str, str], float]) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        append(
            root / "results.jsonl",
            [record("transfer", "xnli", s, t, v, ticket=s) for (s, t), v in values.items()]
            + [
                record("imp", "xnli", "fr", "fr", v, round=k, sparsity=k / 2)
                for k, v in enumerate((0.7, values["fr", "fr"]))
            ],
        )
        return summary(report(root, root / "r.html"))

    worse = of({("fr", "fr"): 0.7, ("ru", "ru"): 0.7, ("fr", "ru"): 0.63, ("ru", "fr"): 0.56})
    better = of({("fr", "fr"): 0.5, ("ru", "ru"): 0.5, ("fr", "ru"): 0.55, ("ru", "fr"): 0.6})
    assert "XNLI \u221210.5 points at 50 %" in worse
    assert "XNLI 7.5 points at 50 %" in better
    assert "XNLI \u221215.0 % at 50 %" in worse
    assert "XNLI 15.0 % at 50 %" in better
    assert "by language: XNLI 50 %" in worse
    assert "by language: XNLI none" in better


def test_odd_records_are_noted(tmp_path: Path) -> None:
    rows = [record("imp", "xnli", "fr", "fr", v, round=1) for v in (0.6, 0.7)]
    rows.append(record("transfer", "xnli", "fr", "ru", 0.5, score="union", ticket="a"))
    append(tmp_path / "results.jsonl", rows)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    said = words(section(report(tmp_path, tmp_path / "r.html"), "left-out"))
    assert "1 measurements are there more than once, with different values" in said
    assert "1 records of combined tickets are not drawn" in said
    assert "broken.safetensors" in said
    said = words(section(report(tmp_path, tmp_path / "r.html", split="test"), "left-out"))
    assert "No record is of the split test; there are records of validation" in said


def test_a_ticket_of_another_task_is_a_row_of_its_own(tmp_path: Path) -> None:
    mask = imp_ticket("wikiann", "fr", 57, 0.5)
    mask.save(tmp_path / "ner.safetensors")
    own = imp_ticket("xnli", "fr", 57, 0.5)
    own.save(tmp_path / "own.safetensors")
    rows = [record("transfer", "xnli", "fr", "fr", v, ticket=t.checksum) for t, v in ((mask, 0.6), (own, 0.7))]
    append(tmp_path / "results.jsonl", rows)
    found = {r["variant"]: r["value"] for r in data(report(tmp_path, tmp_path / "r.html"), "baselines")}
    assert found == {"other task": "0.6", "own": "0.7"}


def test_studies_of_two_scopes_are_not_mixed(tmp_path: Path) -> None:
    for scope, value in (("global", 0.6), ("layer", 0.4)):
        mask = ticket(
            {
                "encoder.layer.0.attention.self.query.weight": theta_0()["encoder.layer.0.output.dense.weight"]
                > len(scope) / 10
            },
            scope=scope,
            base_model=MODEL,
        )
        mask.save(tmp_path / scope / "tickets" / "s0.50.safetensors")
        rows = [
            record("imp", "xnli", "fr", "fr", value, round=k, sparsity=k / 2, ticket=mask.checksum if k else None)
            for k in (0, 1)
        ]
        append(tmp_path / scope / "results.jsonl", rows)
    found = data(report(tmp_path, tmp_path / "r.html"), "metric_by_sparsity")
    assert [(r["study"], r["value"]) for r in found] == [
        ("XNLI (global)", "0.6"),
        ("XNLI (global)", "0.6"),
        ("XNLI (layer)", "0.4"),
        ("XNLI (layer)", "0.4"),
    ]


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_page_and_says_so(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "page.html"
    assert run("report", [str(small), "-o", str(output), "--sparsities", "0.3"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"5 figures: {output} (data: 5 CSV files beside it)"
    assert second.startswith("Left out, as there is no data: Transfer: source by target, ")
    assert "NER, 30\u00a0% pruned: overlap, %" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["."], "holds no records"),
        ([".", "--sparsities", "50,80"], "shares between 0 and 1"),
        ([".", "--sparsities", "half"], "half"),
        ([".", "--tolerance", "2"], "0.01 for one point"),
        ([".", "-o", "report.pdf"], "ends in .html"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        run("report", args)


def test_a_page_that_cannot_be_written_is_said(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="Cannot write the report"):
        report(small, tmp_path / "file" / "r.html")


def test_the_report_needs_no_torch_and_its_help_no_pandas(tmp_path: Path, root: Path) -> None:
    write_imp(tmp_path / "runs", "mlm", "fr", levels=(0.5,))
    code = """
import json, sys
from lnsub.cli.commands import parser_of, run
parser_of("report").format_help()
first = [name for name in ("pandas", "torch") if name in sys.modules]
run("report", sys.argv[1:])
print(json.dumps([first, [name for name in ("pandas", "torch", "transformers", "lightning") if name in sys.modules]]))
"""
    args = [sys.executable, "-c", code, str(tmp_path / "runs"), "-o", str(tmp_path / "r.html")]
    done = subprocess.run(args, cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[], ["pandas"]]
