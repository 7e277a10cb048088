import re
from pathlib import Path

import pytest

from lnsub.report import Made, report
from lnsub.report.collect import study_labels, variant_of
from lnsub.runs.records import append
from lnsub.tickets.provenance import Provenance
from tests.support.report_page import data, section, summary, words
from tests.support.report_tree import (
    MODEL,
    append_measured,
    imp_ticket,
    record,
    theta_0,
)
from tests.support.ticket_factory import provenance, ticket


@pytest.mark.parametrize(
    ("changes", "found", "variant"),
    [
        ({"kind": "imp", "score": "random"}, {}, "ticket"),
        ({"ticket": None}, None, "dense"),
        ({"ticket": float("nan")}, None, "dense"),
        ({"init": "random"}, {}, "reinit"),
        ({"score": "shuffled"}, {}, "shuffled"),
        ({"score": "random_from:0.1"}, {}, "random_from:0.1"),
        ({"score": "random_from:0.1"}, None, "random_from:0.1"),
        ({"score": "random_from:x"}, {}, "ticket"),
        ({"score": "oneshot"}, {"score": "oneshot"}, "oneshot"),
        ({"score": "magnitude_init"}, {"task": "inherited"}, "inherited"),
        ({"score": "magnitude_init", "source_task": "inherited"}, {"score": "magnitude_init"}, "inherited"),
        ({"score": "magnitude_init", "source_task": "inherited"}, None, "inherited"),
        ({"score": "magnitude_init", "source_task": None}, {"score": "magnitude_init"}, "ticket"),
        ({"score": "intersection"}, {"sources": "{}"}, "combined"),
        ({"score": "taylor"}, {"score": "taylor"}, "ticket"),
        ({}, {"task": "wikiann"}, "other task"),
        ({}, None, "ticket"),
        ({"source_task": "wikiann"}, None, "other task"),
        ({"source_task": "inherited"}, None, "inherited"),
        ({"source_task": float("nan")}, None, "ticket"),
        ({"source_task": "wikiann"}, {"task": "xnli"}, "ticket"),
    ],
)
def test_records_are_told_apart(changes: dict, found: dict | None, variant: str) -> None:
    values = {"kind": "transfer", "task": "xnli", "score": "magnitude", "init": "pretrained", "ticket": "ab"}
    known: Provenance | None = None if found is None else provenance(**found)
    assert variant_of(values | changes, known) == variant


def test_studies_are_named_by_what_tells_them_apart() -> None:
    keys = [("bert", "mlm", "magnitude", "global"), ("bert", "xnli", "magnitude", "global")]
    assert list(study_labels(keys).values()) == ["MLM", "XNLI"]
    keys = [("bert", "wikiann", score, scope) for score, scope in (("taylor", "layer"), ("magnitude", "layer"))]
    assert list(study_labels(keys).values()) == ["NER (magnitude)", "NER (taylor)"]


def test_the_summary_says_what_the_numbers_say(made: Made) -> None:
    said = summary(made)
    assert "MLM 60 % (fr, ru and ur); NER 60 % (ar), 50 % (ru and zh) and 40 % (fr and ur); XNLI 60 % (" in said
    changes = [-2 * 0.5 * (1 + abs(i - j)) for i in range(5) for j in range(5) if i != j]
    assert f"NER \u2212{-sum(changes) / len(changes):.1f} points (0 of 20 successful) at 50 %" in said
    means = {r["study"]: float(r["overlap"]) for r in data(made, "overlap_by_sparsity") if r["sparsity"] == "0.5"}
    for study, mean in means.items():
        assert re.search(rf"{study} {100 * mean:.1f} % \(by chance 33.3 %\) at 50 %", said)


def test_the_summary_changes_with_the_numbers(tmp_path: Path) -> None:
    def of(values: dict[tuple[str, str], float]) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        cells = [record("transfer", "xnli", s, t, v, ticket=s) for (s, t), v in values.items()]
        for number, v in enumerate((0.7, values["fr", "fr"])):
            cells.append(record("imp", "xnli", "fr", "fr", v, round=number, sparsity=number / 2))
        for number, cell in enumerate(cells):
            append_measured(root / str(number) / "results.jsonl", [cell])
        return summary(report(root, root / "r.html"))

    worse = of({("fr", "fr"): 0.7, ("ru", "ru"): 0.7, ("fr", "ru"): 0.63, ("ru", "fr"): 0.56})
    better = of({("fr", "fr"): 0.5, ("ru", "ru"): 0.5, ("fr", "ru"): 0.55, ("ru", "fr"): 0.6})
    assert "XNLI \u221210.5 points (0 of 2 successful) at 50 %" in worse
    assert "XNLI 7.5 points (2 of 2 successful) at 50 %" in better
    assert "XNLI \u221215.0 % (best fr, worst ru) at 50 %" in worse
    assert "XNLI 15.0 % (best ru, worst fr) at 50 %" in better
    assert "matches the dense model: XNLI 50 % (fr)" in worse
    assert "matches the dense model: XNLI none (fr)" in better


def test_a_page_tells_no_criterion_that_it_did_not_apply(tmp_path: Path) -> None:
    rows = [record("transfer", "xnli", "fr", "ru", 0.6, ticket="fr"), record("imp", "xnli", "fr", "fr", 0.6, round=1)]
    append(tmp_path / "results.jsonl", rows)
    made = report(tmp_path, tmp_path / "r.html")
    assert "orange worse." in words(section(made, "transfer"))
    assert "no more than" not in words(section(made, "transfer"))


def test_odd_records_are_noted(tmp_path: Path) -> None:
    rows = [record("imp", "xnli", "fr", "fr", v, round=1) for v in (0.6, 0.7)]
    rows.append(record("transfer", "xnli", "fr", "ru", 0.5, score="union", ticket="a"))
    append(tmp_path / "results.jsonl", rows)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    said = words(section(report(tmp_path, tmp_path / "r.html"), "left-out"))
    assert "1 measurements are there more than once" in said
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
