import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.runs.examples import Examples
from lnsub.runs.folder import RunFolder
from tests.support.report_tree import SEED, write_imp


def test_tables_name_no_place_on_this_machine(tmp_path: Path) -> None:
    write_imp(tmp_path / "runs", "wikiann", "fr")
    folder = RunFolder.of(tmp_path / "runs", "wikiann", "fr", SEED)
    for record in folder.records("imp"):
        Examples(np.arange(4), {name: np.ones(4) for name in ("hits", "predicted", "gold")}).save(
            folder.examples(record)
        )
    output = tmp_path / "new" / "page.html"
    assert run("report", [str(tmp_path / "runs"), "-o", str(output)]) == 0
    tables = [path.read_text(encoding="utf-8") for path in output.parent.iterdir()]
    assert any("non-inferior on the same examples" in table for table in tables)
    assert not any(str(tmp_path) in table for table in tables)


def test_the_command_writes_the_page_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("ar", "fr"):
        write_imp(tmp_path / "runs", "wikiann", language)
    output = tmp_path / "new" / "page.html"
    assert run("report", [str(tmp_path / "runs"), "-o", str(output), "--sparsities", "0.3"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"7 figures: {output} (data: 8 CSV files")
    assert second.startswith("Left out")
    assert "Transfer: source by target, " in second
    assert "NER, 30\u00a0% pruned: overlap, %" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "nowhere"),
        (["."], "no records"),
        ([".", "--sparsities", "50,80"], "--sparsities .*50,80"),
        ([".", "--sparsities", "half"], "--sparsities .*half"),
        ([".", "--tolerance", "2"], "--tolerance .*2"),
        ([".", "-o", "report.pdf"], r"\.html.*report\.pdf"),
        ([], "--published"),
        ([".", "--published"], r"leave \. out"),
        (["--published", "--split", "test"], "--split is for a report of runs"),
        (["--published", "--tolerance", "0.01"], "--tolerance is for a report of runs"),
        (["--published", "--inherited"], "--inherited is for a report of runs"),
        ([".", "--format", "pdf"], "--figures DIR"),
        ([".", "--figures", "f", "--format", "pdf,jpg"], "'jpg' is none of them"),
        ([".", "--figures", "f", "--format", ""], "name at least one"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        run("report", args)


def test_the_papers_own_page_takes_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "paper.html"
    figures = tmp_path / "figures"
    assert run("report", ["--published", "-o", str(output), "--figures", str(figures), "--format", "SVG"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"7 figures: {output} (data: 7 CSV files")
    assert second == f"{len(list(figures.glob('*.svg')))} files for a paper: {figures}"
    assert (tmp_path / "paper.winning_tickets.csv").exists()


def test_the_help_needs_neither_pandas_nor_torch(root: Path) -> None:
    code = """
import sys
from lnsub.cli.commands import parser_of
parser_of("report").format_help()
print([name for name in ("pandas", "torch", "altair") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_left_out_is_said_on_the_screen_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("ar", "fr"):
        write_imp(tmp_path / "runs", "wikiann", language)
    report = [str(tmp_path / "runs"), "-o", str(tmp_path / "page.html"), "--sparsities", "0.3"]
    run("report", report)
    assert capsys.readouterr().err == ""
    folder = next((tmp_path / "runs").rglob("results.jsonl")).parent
    with (folder / "results.jsonl").open("a") as file:
        file.write("half a rec\n")
    (folder / "config.yaml").write_text("model: [\n")
    (folder / "\x1b[2J.safetensors").write_bytes(b"no ticket")
    run("report", report)
    said = capsys.readouterr().err
    for part in ("results.jsonl, line ", "config.yaml cannot be read", r"Left out: ", r"\x1b[2J.safetensors"):
        assert part in said
    assert "\x1b" not in said


def test_no_cell_of_a_reports_tables_is_a_formula(tmp_path: Path) -> None:
    for language, formula in {"ar": "=1+1", "fr": "@x"}.items():
        write_imp(tmp_path / "runs", "wikiann", language)
        records = tmp_path / "runs" / "wikiann" / language / "seed57" / "results.jsonl"
        records.write_text(records.read_text().replace(f'"{language}"', f'"{formula}"'))
    run("report", [str(tmp_path / "runs"), "-o", str(tmp_path / "page.html"), "--sparsities", "0.3"])
    tables = list(tmp_path.glob("page.*.csv"))
    assert len(tables) >= 3
    cells = [cell for path in tables for row in csv.reader(path.open()) for cell in row]
    assert "'=1+1" in cells
    assert "'@x" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
