"""The README and the docs are true: lnsub takes each of their commands, and their Python runs."""

import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from lnsub import XNLI
from lnsub.cli import commands
from lnsub.cli.main import OTHERS, TRAINING
from lnsub.runs.folder import RunFolder
from tests.support.command import parsed
from tests.support.data_makers import pairs, write_rows
from tests.support.ticket_factory import random_masks, ticket

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def shown() -> list[str]:
    """The commands on lines of their own in code blocks, which are indented; continued lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"^ {4,}(?:\$ )?(lnsub [a-z].*?)(?: {2,}#.*)?$", text, re.M)
    return sorted(set(found))


def test_there_are_commands_to_check():
    assert len(shown()) >= 10


@pytest.mark.parametrize("line", shown())
def test_a_command_in_the_docs_is_one_that_lnsub_takes(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *args = shlex.split(line.replace("$seed", "57"), comments=True)[1:]
    if command in TRAINING:
        assert parsed([command, *args])["data"]["class_path"]
    else:
        assert command in OTHERS
        assert commands.parser_of(command).parse_args(args).call


def snippets() -> list[tuple[Path, str]]:
    """The Python in code blocks, page by page."""
    return [
        (page, code)
        for page in PAGES
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    ]


@pytest.fixture
def studied(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which the names that the docs use are small folders: a model, data, a run's tickets."""
    model = tmp_path / "google-bert" / "bert-base-multilingual-cased"
    shutil.copytree(bert, model)
    for language, (split, rows) in product(("fr", "ur"), {"train": 12, "validation": 6}.items()):
        write_rows(tmp_path / XNLI.task_class.dataset / language / f"{split}.jsonl", pairs(rows, language))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for seed, language in enumerate(("fr", "ur")):
        folder = RunFolder.of(tmp_path / "runs", "xnli", language, 57)
        ticket(random_masks(0.5, seed), language=language).save(folder.ticket(0.5))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_snippets_to_run():
    assert len(snippets()) >= 3


@pytest.mark.parametrize(
    ("page", "code"), snippets(), ids=lambda value: value.stem if isinstance(value, Path) else None
)
def test_the_python_in_the_docs_runs_with_what_is_public(page, code, studied):
    assert not re.search(r"(from|import) lnsub\.", code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_links_in_the_docs_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def references() -> list[str]:
    """What docstrings of the package refer to by its full name."""
    found: set[str] = set()
    for path in sorted((ROOT / "lnsub").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r":(?:mod|class|func|meth|data|attr):`~?(lnsub(?:\.\w+)+)`", text))
    return sorted(found)


def test_what_docstrings_refer_to_is_there():
    assert len(references()) > 50
    missing = []
    for name in references():
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    # Fields of dataclasses without a default are no attributes of their class.
    fields = {name for name in missing if name.rpartition(".")[2] in vars_of(name.rpartition(".")[0])}
    assert set(missing) == fields


def vars_of(name: str) -> dict[str, object]:
    """The annotated fields of a class."""
    return getattr(pkgutil.resolve_name(name), "__annotations__", {})
