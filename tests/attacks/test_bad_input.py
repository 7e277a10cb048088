"""The short form of the attacks by bad input; tests/attacks/bad_input.py is the long one."""

import importlib.util
import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.bad_input import KINDS
from tests.attacks.sections import replace_section

THERE = [kind for kind, module in KINDS.items() if importlib.util.find_spec(module)]


def attacked(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.attacks.bad_input", *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_bad_input_of_every_kind_is_refused_in_one_line(root):
    done = attacked(root, "--cases", "540", "--seed", "3", "--keep-going")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "Seed 3, 540 cases" in done.stdout
    for kind in THERE:
        row = re.search(rf"^\| {kind} \| (\d+) \|", done.stdout, re.M)
        assert row, done.stdout
        assert int(row[1]) >= 50


def test_a_case_can_be_run_alone_by_its_name(root):
    done = attacked(root, "--seed", "3", "--kinds", "command lines", "--only", "command lines: ticket alone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Seed 3, 1 cases" in done.stdout


MADE_UP = """
from tests.attacks.cases import Case

def cases(rng):
    yield Case("harmless", lambda folder, world: ["--version"])
    yield Case("outside", lambda folder, world: ["report", str(world.runs), "-o", "elsewhere.html"], "skipped")
    yield Case("refused", lambda folder, world: ["overlap", str(world.ticket), "--seed=x"])
"""
RUN = (
    "from tests.attacks import bad_input; bad_input.KINDS = {'made up': 'made_up'}; raise SystemExit(bad_input.main())"
)


def test_what_is_no_refusal_is_found(root, tmp_path):
    """Without which a harness that sees nothing would find all well."""
    (tmp_path / "made_up.py").write_text(MADE_UP)
    command = [sys.executable, "-c", RUN, "--cases", "3", "--keep-going"]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{tmp_path}"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("FAILED") == 2, done.stdout
    assert "status 0 and 0 errors instead of 2 and one" in done.stdout
    assert re.search(r"writes outside: .*'elsewhere\.html'", done.stdout)


@pytest.mark.parametrize("kind", THERE)
def test_the_same_seed_gives_the_same_cases(kind):
    def names(seed: int) -> list[str]:
        cases = importlib.import_module(KINDS[kind]).cases(random.Random(seed))
        return [case.name for case in itertools.islice(cases, 1500)]

    assert names(1) == names(1)
    assert names(1) != names(2)
    assert len(set(names(1))) == 1500


def test_only_a_section_of_its_own_is_replaced(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# A\n<!-- one: begin -->\nold\n<!-- one: end -->\nkept\n<!-- two: begin -->\n<!-- two: end -->\n")
    replace_section(path, "one", "new\n")
    replace_section(path, "two", "other\n")
    text = path.read_text()
    assert text == (
        "# A\n<!-- one: begin -->\nnew\n<!-- one: end -->\nkept\n<!-- two: begin -->\nother\n<!-- two: end -->\n"
    )
    with pytest.raises(ValueError, match="three"):
        replace_section(path, "three", "")
