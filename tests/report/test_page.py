import re
from pathlib import Path

import pandas as pd
import pytest

from lnsub.common.errors import UserError
from lnsub.report import Made, report
from lnsub.report.build import TABLES
from lnsub.report.languages import NAMES, html_label
from tests.support.report_page import chart, document, panels, section, words
from tests.support.report_tree import (
    write_imp,
)


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
    assert not [e.tag for e in document(made).iter() if e.tag in {"iframe", "img", "object", "embed", "base"}]
    assert not re.search(r"<script[^>]*src|@import|@font-face", text)
    (policy,) = [e.get("content") for e in document(made).iter("meta") if e.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline'")
    links = {e.get("href") for e in document(made).iter("a") if not e.get("href").startswith("#")}
    outside = {link for link in links if ":" in link}
    assert links - outside == {path.name for path in made.data}
    assert outside <= {"https://aclanthology.org/2022.emnlp-main.513/", "https://arxiv.org/abs/1803.03635"}


def test_every_figure_is_drawn_linked_and_has_its_data(made: Made) -> None:
    assert made.left_out == ("Controls: what tickets that are alike have in common", "Beside the paper")
    sections = {e.get("id"): e for e in document(made).iter("section")}
    there = {path.name.removeprefix("report.").removesuffix(".csv") for path in made.data}
    undrawn = {"beside_the_paper", "controls", "contrasts", "primary"}
    assert there == TABLES - undrawn
    without = undrawn | {"clusters", "correlations", "findings", "neutrality", "winning_tickets"}
    tables_alone = {"ablation_own", "ablation_overall", "overlap_by_pair", "ticket_kinds", "variance_shares"}
    tables_alone |= {"recovered_cells", "recovered_changes"}
    for name in TABLES - without - tables_alone:
        drawings = list(sections[name].iter("figure"))
        assert drawings
        assert all(chart(made, f)["description"] for f in drawings), name
        tables = [t for t in sections[name].iter("table") if t.find("caption") is not None]
        captions = [words(t.find("caption")) for t in tables]
        assert all(a.startswith(b) for a, b in zip(captions, panels(made, name), strict=True))
    anchors = {e.get("href") for e in document(made).iter("a") if e.get("href").startswith("#")}
    assert anchors == {f"#{name}" for name in sections.keys() - {"runs", "left-out"}}
    for path in made.data:
        assert not pd.read_csv(path).empty


def test_figures_without_data_are_named_with_the_reason_and_leave_no_file(tmp_path: Path) -> None:
    write_imp(tmp_path / "runs", "xnli", "fr")
    output = tmp_path / "out" / "my.report.html"
    stale, foreign = output.with_name("my.report.transfer.csv"), output.with_name("my.report.notes.csv")
    report(tmp_path / "runs", output)  # whose page tells that the tables beside it are a report's
    for path in (stale, foreign):
        path.write_text("old", encoding="utf-8")
    made = report(tmp_path / "runs", output)
    assert made.drawn == (
        "Metric against sparsity",
        "Sparsest winning tickets",
        "Where pruning took the weights from",
        "The paper's findings",
    )
    said = words(section(made, "left-out"))
    for title in made.left_out:
        assert f"{title}: not drawn, as " in said
    assert "`" not in said
    assert "lnsub transfer --zero-shot makes them" in said
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "my.report.findings.csv",
        "my.report.html",
        "my.report.metric_by_sparsity.csv",
        "my.report.notes.csv",
        "my.report.pruned_where.csv",
        "my.report.winning_tickets.csv",
    ]


def test_languages_are_named_in_their_own_direction(made: Made) -> None:
    names = {(e.get("lang"), e.get("dir"), e.text) for e in document(made).iter("bdi")}
    assert {("ar", "rtl", "العربية"), ("ur", "rtl", NAMES["ur"]), ("zh", "ltr", "中文")} <= names
    assert html_label("qqq") == "qqq"
    spec = chart(made, panels(made, "transfer")["NER, 50 % pruned: F1, %"])
    (called,) = [parameter["value"] for parameter in spec["params"] if parameter["name"] == "names"]
    assert called["ar"] == f"\u2068{NAMES['ar']}\u2069 ar"


def test_the_runs_are_listed_with_what_differs_and_what_they_share(made: Made) -> None:
    table, shared = section(made, "runs").iter("table")
    head, *rows = [[words(cell) for cell in row] for row in table.iter("tr")]
    by_run = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert by_run["wikiann/fr/seed58"]["measured"] == "10 \u00d7 imp"
    assert by_run["wikiann/fr/seed58"]["data"] == "wikiann"
    assert by_run["transfer/xnli"]["measured"] == "63 \u00d7 transfer, 18 \u00d7 zero_shot"
    assert by_run["transfer/xnli"]["sparsity, %"] == "0 to 80"
    settings = dict([words(cell) for cell in row] for row in shared.iter("tr"))
    assert settings["learning_rate"] in {"2e-05", "2.0e-05"}
    assert settings["IMPCallback.sparsities"] == "[0.1, 0.9]"
    assert "language" not in settings


def test_a_page_that_cannot_be_written_is_said(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="Cannot make the folder"):
        report(small, tmp_path / "file" / "r.html")
