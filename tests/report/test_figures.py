from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnsub.common.errors import UserError
from lnsub.report import Made, Options, report
from lnsub.report.figures.by_layer import level_order, means, ticket_panels
from lnsub.runs.records import append
from lnsub.tickets.ticket import Ticket
from tests.support.report_page import cells, chart, data, panels, rows, section, summary, words
from tests.support.report_tree import (
    CHOSEN,
    LANGUAGES,
    LEVELS,
    imp_ticket,
    inherited_ticket,
    matches,
    mixture_value,
    own_value,
    record,
    similarity_value,
    transfer_value,
    write_imp,
)
from tests.support.ticket_factory import kept_set, ticket


def test_the_best_sparsity_is_the_highest_that_matches_the_dense_model(made: Made) -> None:
    for task, study in (("xnli", "XNLI"), ("wikiann", "NER"), ("mlm", "MLM")):
        for language in LANGUAGES[task]:
            dense = own_value(task, language, 0)
            if (task, language) in {("wikiann", "fr"), ("wikiann", "ur")}:  # two seeds that agree: deviation 0
                best = max(s for s in LEVELS if own_value(task, language, s) >= dense)
            else:
                best = max(s for s in LEVELS if matches(task, own_value(task, language, s), dense))
            found = [r for r in data(made, "metric_by_sparsity") if (r["study"], r["language"]) == (study, language)]
            assert [float(r["sparsity"]) for r in found if r["best"] == "True"] == [best]
            assert {float(r["dense"]) for r in found} == {dense}
    drawn = [row for panel in panels(made, "metric_by_sparsity").values() for row in rows(made, panel)]
    assert sum("ring" in row for row in drawn) == sum(map(len, LANGUAGES.values()))


def test_a_tolerance_takes_the_place_of_the_margin(small: Path, tmp_path: Path) -> None:
    made = report(small, tmp_path / "r.html", Options(tolerance=0.2))
    rows = [r for r in data(made, "metric_by_sparsity") if r["best"] == "True"]
    assert {r["sparsity"] for r in rows} == {"0.9"}
    assert "20 points" in words(section(made, "metric_by_sparsity"))
    made = report(small, tmp_path / "r.html", Options(tolerance=0.0))
    assert "NER 40 % (ar and fr)" in summary(made)


def test_transfer_heat_maps_hold_the_cells_and_their_change(made: Made) -> None:
    titles = panels(made, "transfer")
    assert len(titles) == 3 * 2 * 2
    for sparsity in CHOSEN:
        at = f"NER, {100 * sparsity:g} % pruned"
        absolute, change = (cells(made, titles[f"{at}: {what}"]) for what in ("F1, %", "change, points"))
        languages = LANGUAGES["wikiann"]
        assert absolute.keys() == {(s, t) for s in languages for t in languages}
        assert change.keys() == {(s, t) for s in languages for t in languages if s != t}
        for (s, t), shown in absolute.items():
            value = transfer_value("wikiann", s, t, sparsity)
            assert float(shown) == pytest.approx(100 * value, abs=0.051)
            if s != t:
                drop = 100 * (value - own_value("wikiann", t, sparsity))
                assert float(change[s, t].replace("\u2212", "-")) == pytest.approx(drop, abs=0.051)
    of_xnli = [r for r in data(made, "transfer") if r["study"] == "XNLI"]
    assert len(of_xnli) == 2 * 9
    for r in of_xnli:
        value = transfer_value("xnli", r["source"], r["target"], float(r["sparsity"]))
        assert float(r["value"]) == pytest.approx(value, abs=1e-12)


def test_the_relative_drop_is_drawn_as_defined(made: Made) -> None:
    for r in data(made, "relative_drop"):
        task = {"NER": "wikiann"}.get(r["study"], r["study"].lower())
        s, sparsity = r["source"], float(r["sparsity"])
        value = mixture_value if task == "mlm" and "+" in s else partial(transfer_value, task, s)
        targets = [t for t in LANGUAGES[task] if t not in s.split("+")]
        terms = [value(t, sparsity) / own_value(task, t, sparsity) - 1 for t in targets]
        assert float(r["drop"]) == pytest.approx(sum(terms) / len(terms))
    shown = [row["value"] for panel in panels(made, "relative_drop").values() for row in rows(made, panel)]
    assert sorted(shown) == pytest.approx(sorted(100 * float(r["drop"]) for r in data(made, "relative_drop")))


def test_baselines_stand_beside_tickets(made: Made) -> None:
    values = {
        (r["variant"], r["target"]): float(r["value"])
        for r in data(made, "baselines")
        if r["study"] == "NER" and r["sparsity"] in {"0.5", "0.0"}
    }
    own = own_value("wikiann", "fr", 0.5)
    others = [transfer_value("wikiann", s, "fr", 0.5) for s in LANGUAGES["wikiann"] if s != "fr"]
    expected = {"own": own, "others": sum(others) / 4, "dense": own_value("wikiann", "fr", 0)}
    expected |= {"shuffled": own - 0.05, "oneshot": own - 0.01, "random": own - 0.12, "reinit": own - 0.3}
    expected |= {"random_from:0.1": own - 0.11, "random_from:0.2": own - 0.09, "inherited": own - 0.03}
    assert {variant: values[variant, "fr"] for variant in expected} == pytest.approx(expected)
    assert {variant for variant, _ in values} == expected.keys()
    shown = chart(made, panels(made, "baselines")["NER, 50 % pruned"])["layer"][0]["encoding"]["y"]["sort"]
    named = ["own ticket", "inherited mask", "one-shot mask", "shuffled ticket"]
    named += ["random from 20\u00a0%", "random from 10\u00a0%", "random mask"]
    assert [text for text in shown if text in named][: len(named)] == named


def masks(found: Ticket) -> set[tuple[str, int]]:
    unpacked = {
        name: np.unpackbits(found.masks[name], count=144, bitorder="little").astype(bool) for name in found.masks
    }
    return kept_set(unpacked)


def test_overlap_and_departure_matrices_equal_plain_sets(made: Made) -> None:
    titles = panels(made, "overlap")
    kept = {code: masks(imp_ticket("xnli", code, 57, 0.5)) for code in LANGUAGES["xnli"]}
    inherited = masks(inherited_ticket(0.5))
    overlap, departures = (
        cells(made, titles["XNLI, 50 % pruned: overlap, %"]),
        cells(made, titles["XNLI, 50 % pruned: departures, %"]),
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
    (panel,) = [panel for title, panel in panels(made, "pruned_where").items() if title.startswith("MLM, 80")]
    shown = cells(made, panel)
    assert len(shown) == 3 * 6
    assert float(shown["1", "attention output"]) == pytest.approx(100 * sum(pruned) / 3, abs=0.051)


def test_without_inherited_masks_departures_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    for code in ("fr", "ru"):
        write_imp(tmp_path, "mlm", code, levels=(0.5,))
    made = report(tmp_path, tmp_path / "r.html")
    assert "lnsub report --inherited" in words(section(made, "overlap"))
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
    means_table = list(section(made, "overlap").iter("table"))[-1]
    head, row = ([words(cell) for cell in tr] for tr in means_table.iter("tr"))
    shown = dict(zip(head, row, strict=True))
    for column, name in (("if independent", "null"), ("overlap of departures", "departure_overlap")):
        assert shown[column] == f"{100 * sum(float(r[name]) for r in rows) / 3:.1f} %"
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
    rows = [[words(cell) for cell in row] for row in section(made, "overlap_against_transfer").iter("tr")]
    assert ["NER", "80 %", "overlap", "Pearson", value] in [row[:5] for row in rows]


def test_retrieval_is_drawn_by_layer_for_the_dense_model_and_for_tickets(made: Made) -> None:
    captions = [words(f.find("figcaption")) for f in section(made, "retrieval_by_layer").iter("figure")]
    assert captions == [
        "Dense model, each language with English (mean/ratio-4)",
        "NER tickets, mean over languages (mean/ratio-4)",
        "Dense model, each language with English (mean/ratio-4, first 5)",
        "NER tickets, mean over languages (mean/ratio-4, first 5)",
    ]
    for top, shift in (("1", 0.0), ("5", 0.02)):
        all_rows = data(made, "retrieval_by_layer")
        rows = [r for r in all_rows if (r["system"], r["target"], r["top"]) == ("dense", "fr", top)]
        expected = [0.25 + 0.1 * k * (3.4 - k) + shift for k in range(4)]
        assert [float(r["value"]) for r in rows] == pytest.approx(expected)
        assert {float(r["chance"]) for r in rows} == {int(top) / 500}
    assert "the dense model in layer 2" in summary(made)
    assert "the dense model among the first 5 in layer 2" in summary(made)


def test_tickets_are_drawn_beside_the_dense_model_on_the_same_languages() -> None:
    rows = pd.DataFrame(
        [
            {"system": system, "own": False, "target": target, "layer": 1, "sparsity": sparsity, "value": value}
            for system, target, sparsity, value in [
                ("dense", "ar", 0.0, 0.1),
                ("dense", "fr", 0.0, 0.5),
                ("wikiann", "fr", 0.5, 0.4),
            ]
        ]
    )
    ((title, name, both, sparsities),) = ticket_panels(rows, (0.5,))
    assert (title, name, sparsities) == ("NER tickets, \u2068français\u2069 fr", "NER tickets", [0.5])
    # Not the mean of Arabic and French, which the tickets were not measured on.
    assert means(both[both["line"] == 0.0]) == {1: 0.5}
    assert means(both[both["line"] == 0.5]) == {1: 0.4}


def test_inherited_masks_are_a_line_beside_the_tickets_of_their_sparsity() -> None:
    rows = pd.DataFrame(
        [
            {"system": system, "own": False, "target": target, "layer": 1, "sparsity": sparsity, "value": value}
            for system, target, sparsity, value in [
                ("dense", "fr", 0.0, 0.5),
                ("wikiann", "fr", 0.5, 0.4),
                ("inherited", "fr", 0.5, 0.3),
                ("inherited", "ar", 0.5, 0.0),
                ("inherited", "fr", 0.8, 0.2),
            ]
        ]
    )
    ((_, _, both, sparsities),) = ticket_panels(rows, (0.5, 0.8))
    assert sparsities == [0.5]
    assert level_order(both) == ["dense model", "50\u00a0% pruned", "inherited mask, 50\u00a0% pruned"]
    assert means(both[both["line"] == -0.5]) == {1: 0.3}
    ((title, _, alone, _),) = ticket_panels(rows[rows["system"] != "wikiann"], (0.8,))
    assert title.startswith("Inherited masks, ")
    assert means(alone[alone["line"] == 0.8]) == {1: 0.2}


def test_similarity_is_drawn_by_measure_with_its_null_and_intervals(made: Made) -> None:
    figures = panels(made, "similarity_by_layer")
    assert list(figures) == [
        f"{name}, {what} (first token)"
        for name in ("CKA", "SVCCA", "PWCCA")
        for what in (
            "dense model, each language with English",
            "NER tickets, mean over languages",
            "NER tickets, each language under its own, \u2068français\u2069 fr",
        )
    ]
    drawn = figures["PWCCA, dense model, each language with English (first token)"]
    points = [row for row in rows(made, drawn) if not row["kind"]]
    assert len(points) == 3 * 4
    assert {(row["series"], row["x"]): row["y"] for row in points}["fr", 2] == pytest.approx(0.71)
    assert all((row["low"], row["high"]) == pytest.approx((row["y"] - 0.02, row["y"] + 0.03)) for row in points)
    assert [row["kind"] for row in rows(made, drawn) if row["kind"]] == ["sentences shuffled"] * 4
    found = [
        r for r in data(made, "similarity_by_layer") if (r["measure"], r["target"], r["layer"]) == ("svcca", "fr", "3")
    ]
    value = {(r["system"], r["own"], r["sparsity"]): float(r["value"]) for r in found}
    expected = {("dense", "False", "0.0"): similarity_value("svcca", 1, 3)}
    for sparsity in CHOSEN:
        shared = similarity_value("svcca", 1, 3, sparsity)
        expected |= {("wikiann", "False", str(sparsity)): shared, ("wikiann", "True", str(sparsity)): shared - 0.1}
    assert value == pytest.approx(expected)
    assert {float(r["null"]) for r in found} == {0.2}
    assert "PWCCA (first token) of the dense model goes from 0.83 in layer 0 to 0.65 in layer 3" in summary(made)


def test_similarity_is_no_metric_of_a_task(made: Made) -> None:
    text = made.page.read_text(encoding="utf-8")
    assert not any("similarity" in row["task"] for row in data(made, "metric_by_sparsity"))
    assert "Retrieval accuracy by layer" in text
    assert "No record is of the split" not in text


def test_pairs_of_other_languages_have_panels_of_their_own(tmp_path: Path) -> None:
    facts = {"split": "pairs", "sparsity": 0.0, "score": None, "n": 50, "layer": 1}
    rows = []
    for pivot in (None, "fr"):
        rows += [
            record("retrieval", "retrieval", None, "de", 0.5, metric="accuracy/mean/ratio-4", pivot=pivot, **facts),
            record("similarity", "similarity", None, "de", 0.5, metric="cka/mean", pivot=pivot, **facts),
        ]
    append(tmp_path / "results.jsonl", rows)
    made = report(tmp_path, tmp_path / "r.html")
    for name in ("retrieval_by_layer", "similarity_by_layer"):
        captions = [words(f.find("figcaption")) for f in section(made, name).iter("figure")]
        assert len(captions) == 2
        assert "each language with English" in captions[0]
        assert "each language with \u2068français\u2069 fr" in captions[1]
