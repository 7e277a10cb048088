"""Panels as files for a paper: their names, what is refused, and what a second report does to the first one's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.report import figure_files, published_report, report
from lnsub.report.collect import collect
from lnsub.report.figure import Options
from lnsub.report.figure_files import FigureFiles
from lnsub.report.figures.metric import metric_by_sparsity
from lnsub.report.figures.overlap import overlap_figure


@pytest.fixture(scope="module")
def folder(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("files")
    report(small, base / "r.html", figures=base / "figures", formats=("pdf", "svg", "png"))
    return base / "figures"


def test_each_panel_is_a_file_of_each_format_with_its_caption(folder: Path) -> None:
    listed = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {*listed, "figures.json"}
    stems = {Path(name).stem for name in listed}
    assert {f"{stem}.{form}" for stem in stems for form in ("pdf", "svg", "png")} == set(listed)
    assert {"metric-by-sparsity-ner", "overlap-ner-50", "overlap-ner-80", "pruned-where-ner-80"} <= stems
    assert all(stem.isascii() and " " not in stem for stem in stems)
    entry = listed["metric-by-sparsity-ner.pdf"]
    assert (entry["figure"], entry["title"]) == ("Metric against sparsity", "NER")
    assert entry["seeds"] == "Seeds: 1 (57); so nothing is known of the spread over seeds."
    assert (folder / "overlap-ner-50.pdf").read_bytes().startswith(b"%PDF-")


def test_a_second_report_replaces_its_own_and_removes_what_it_does_not_draw(small: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    report(small, tmp_path / "r.html", figures=figures, formats=("svg",))
    (figures / "mine.svg").write_text("mine", encoding="utf-8")
    before = {path.name for path in figures.iterdir()}
    made = report(small, tmp_path / "r.html", figures=figures, formats=("svg",))
    assert {path.name for path in figures.iterdir()} == before
    assert {path.name for path in made.files} == before - {"mine.svg", "figures.json"}
    published_report(tmp_path / "p.html", figures=figures, formats=("svg",))
    left = {path.name for path in figures.iterdir()}
    assert "mine.svg" in left
    assert not left & (before - {"mine.svg", "figures.json"})


def test_interrupted_between_any_two_files_it_goes_on_as_if_nothing_had_been(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = collect(small)
    one, other = (
        [metric_by_sparsity(material, Options()), overlap_figure(material, Options(sparsities))]
        for sparsities in ((0.5,), (0.8,))
    )
    files, write = FigureFiles(tmp_path / "figures", ("svg",)), figure_files._write
    files.write(one)
    whole = len(list(files.folder.iterdir()))
    for moment in range(whole + 1):  # the list is written twice
        left = iter(range(moment))

        def until_then(path: Path, content: bytes, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(path, content)

        monkeypatch.setattr(figure_files, "_write", until_then)
        with pytest.raises(KeyboardInterrupt):
            files.write(other if moment % 2 else one)
        monkeypatch.setattr(figure_files, "_write", write)
        files.check()
        made = files.write(one if moment % 2 else other)
        assert {path.name for path in files.folder.iterdir()} == {
            path.name for path in (*made, files.folder / "figures.json")
        }
    listed = json.loads((files.folder / "figures.json").read_text(encoding="utf-8"))
    assert not any("earlier" in entry for entry in listed.values())


def test_a_tree_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        report(tmp_path / "nowhere", tmp_path / "r.html", figures=tmp_path / "figures")
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_changed_or_is_of_another_is_not_replaced(small: Path, tmp_path: Path) -> None:
    figures, page = tmp_path / "figures", tmp_path / "r.html"
    figures.mkdir()
    (figures / "overlap-ner-50.svg").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"overlap-ner-50\.svg exists and is not a figure that a report wrote"):
        report(small, page, figures=figures, formats=("svg",))
    assert [path.name for path in figures.iterdir()] == ["overlap-ner-50.svg"]
    (figures / "figures.json").write_text('{"name": "a package"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"figures\.json exists and is not the list"):
        report(small, page, figures=figures, formats=("svg",))


@pytest.mark.parametrize(
    ("formats", "said"),
    [(("jpg",), "pdf, svg or png; 'jpg' is none of them"), ((), "name at least one")],
)
def test_unknown_formats_are_refused_before_anything_is_written(
    small: Path, tmp_path: Path, formats: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        report(small, tmp_path / "r.html", figures=tmp_path / "figures", formats=formats)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folders_place_is_said(small: Path, tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="Cannot make the folder"):
        report(small, tmp_path / "r.html", figures=tmp_path / "figures")
