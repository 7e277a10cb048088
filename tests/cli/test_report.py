import subprocess
import sys
from pathlib import Path

import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from tests.support.report_tree import (
    write_imp,
)


def test_the_command_writes_the_page_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("ar", "fr"):
        write_imp(tmp_path / "runs", "wikiann", language)
    output = tmp_path / "new" / "page.html"
    assert run("report", [str(tmp_path / "runs"), "-o", str(output), "--sparsities", "0.3"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"5 figures: {output} (data: 5 CSV files")
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
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        run("report", args)


def test_the_help_needs_neither_pandas_nor_torch(root: Path) -> None:
    code = """
import sys
from lnsub.cli.commands import parser_of
parser_of("report").format_help()
print([name for name in ("pandas", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
