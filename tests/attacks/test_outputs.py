"""Commands told to write over what is not theirs: one sentence, status 2, and what is there stays."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.common.files import append_lines, replacing
from lnsub.tickets.ticket import Ticket
from tests.support.command import said
from tests.support.records import RECORD
from tests.support.report_tree import write_imp
from tests.support.ticket_factory import random_ticket


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tickets, a run, and files of a user."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        random_ticket(0.5, number, language=("fr", "ur", "zh")[number]).save(tmp_path / f"t{number}.safetensors")
    for language in ("ar", "fr"):
        write_imp(tmp_path / "runs", "wikiann", language)
    (tmp_path / "config.yaml").write_text("model: {base_model: m}\n")
    (tmp_path / "thesis.html").write_text("<!DOCTYPE html><title>My thesis</title>\n")
    (tmp_path / "people.csv").write_text("name,age\nAda,36\n")
    (tmp_path / "people.json").write_text(json.dumps([{"name": "Ada"}]))
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.html")
    (tmp_path / "to-fifo").symlink_to("fifo")
    (tmp_path / "null.html").symlink_to("/dev/null")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


COMBINE = ["combine", "union", "t0.safetensors", "t1.safetensors"]
OVERLAP = ["overlap", "t0.safetensors", "t1.safetensors"]
RETRIEVE = ["retrieve", "--base-model=nowhere", "--pairs=nowhere"]
FOREIGN = [
    "runs/wikiann/fr/seed57/results.jsonl",
    "config.yaml",
    "thesis.html",
    "people.csv",
    "people.json",
    "binary",
    "folder",
    "fifo",
    "to-fifo",
    "/dev/null",
    "/dev/full",
]
ATTACKS: dict[str, list[str]] = {
    **{f"combine over {path}": [*COMBINE, f"--output={path}"] for path in FOREIGN},
    **{f"combine over {path} by force": [*COMBINE, "--force", f"--output={path}"] for path in FOREIGN},
    **{f"overlap over {path}": [*OVERLAP, f"--output={path}"] for path in [*FOREIGN, "t2.safetensors"]},
    **{f"retrieve over {path}": [*RETRIEVE, f"--output={path}"] for path in [*FOREIGN, "t2.safetensors"]},
    **{f"report over {path}": ["report", "runs", "-o", path] for path in ("thesis.html", "fifo.html", "null.html")},
    **{
        f"export over {path}": ["export", "t0.safetensors", f"--output={path}"]
        for path in [*FOREIGN[:6], "runs", "fifo"]
    },
    **{
        f"record in {path}": [*RETRIEVE, f"--record={path}"]
        for path in ("config.yaml", "fifo", "/dev/null", "no-records", "odd-records")
    },
    "a study over a page": ["demo", "--languages=en,fr", "--output=pages"],
    "combine over a ticket": [*COMBINE, "--output=t2.safetensors"],
    "combine over a source by force": [*COMBINE, "--force", "--output=t1.safetensors"],
}


@pytest.mark.parametrize("what", ATTACKS)
def test_nothing_of_another_kind_is_replaced(what: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("no-records", "odd-records"):
        (world / name).mkdir()
    (world / "pages").mkdir()
    (world / "pages" / "report.html").write_text("<title>My cat</title>")
    (world / "no-records" / "results.jsonl").write_text("my results\n")
    os.mkfifo(world / "odd-records" / "results.jsonl")
    before = contents(world)
    line = said(capsys, ATTACKS[what])
    target = ATTACKS[what][-1].partition("=")[2] or ATTACKS[what][-1]
    assert target in line
    assert contents(world) == before
    assert stat.S_ISFIFO((world / "fifo").stat().st_mode)
    assert all(stat.S_ISCHR(Path(device).stat().st_mode) for device in ("/dev/null", "/dev/full"))


def test_a_ticket_is_replaced_by_force_alone(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Ticket.load("t2.safetensors").checksum
    assert "--force" in said(capsys, [*COMBINE, "--output=t2.safetensors"])
    assert main([*COMBINE, "--output=t2.safetensors", "--force"]) == 0
    made = Ticket.load("t2.safetensors")
    assert made.checksum != before
    assert made.provenance.language == "fr+ur"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_table_replaces_its_own(form: str, world: Path) -> None:
    output = world / "made" / "table"
    for tickets in (OVERLAP, [*OVERLAP, "t2.safetensors", "--by=layer"], OVERLAP):
        assert main([*tickets, "--format", form, f"--output={output}"]) == 0
    output.write_bytes(b"")
    assert main([*OVERLAP, "--format", form, f"--output={output}"]) == 0
    assert output.stat().st_size > 100


def test_a_report_replaces_its_own_page_and_tables(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ["report", "runs", "-o", "report.html"]
    foreign = world / "report.transfer.csv"
    foreign.write_text("a,b\n1,2\n")
    # No table of a report without its page: not removed though the figure has no data.
    assert "report.transfer.csv" in said(capsys, report)
    assert not (world / "report.html").exists()
    foreign.unlink()
    assert main(report) == 0
    page = (world / "report.html").read_bytes()
    tables = sorted(path.name for path in world.glob("report.*.csv"))
    assert main(report) == 0
    assert (world / "report.html").read_bytes() == page
    # A report that was killed before its page was written.
    (world / "report.html").unlink()
    assert main(report) == 0
    # Of figures that have no data now.
    (world / "report.transfer.csv").write_text("model,task\n")
    assert main(report) == 0
    assert sorted(path.name for path in world.glob("report.*.csv")) == tables


@pytest.fixture
def odd_places(tmp_path: Path) -> Iterator[list[Path]]:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    yield [tmp_path / "fifo", tmp_path / "folder", tmp_path / "link", Path("/dev/null")]
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: replacing(path).__enter__(),
        lambda path: append_lines(path, b"a\n"),
        lambda path: random_ticket(0.5, 1).save(path),
    ],
    ids=["replacing", "append_lines", "Ticket.save"],
)
def test_no_file_is_written_where_something_else_is(write: Callable[[Path], object], odd_places: list[Path]) -> None:
    for place in odd_places:
        with pytest.raises(UserError, match=str(place)):
            write(place)


def test_records_are_added_to_records(tmp_path: Path) -> None:
    from lnsub.runs.records import FILE_NAME, append, check_records, read

    check_records(tmp_path / "new")
    append(tmp_path / FILE_NAME, [RECORD])
    check_records(tmp_path)
    assert not (tmp_path / "new").exists()
    assert read(tmp_path / FILE_NAME) == [RECORD]
