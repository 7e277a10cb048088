"""Every command of docs/paper.md runs, at toy size, and what it is for comes out of it."""

import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import datasets
import pandas as pd
import pytest

from lnsub.cli.main import main
from lnsub.runs.records import read_tree
from tests.support.paper_world import SEEDS, commands, make_world

PAGE = (Path(__file__).parents[1] / "docs" / "paper.md").read_text(encoding="utf-8")
EXPERIMENTS = {
    int(number): (where, re.findall(r"^    (lnsub (?:.*\\\n)*.*)$", section, re.M))
    for number, where, section in re.findall(r"^### (\d+)\. (.+)\n((?:(?!##).*\n)*)", PAGE, re.M)
}


def run(line: str) -> None:
    """Runs a command in this process, with its patterns expanded as a shell does."""
    arguments: list[str] = []
    # A shell expands what is not quoted; after shlex, that can no longer be told.
    for word in re.findall(r"'[^']*'|\S+", line.removeprefix("lnsub ")):
        plain = shlex.split(word)[0]
        there = sorted(glob.glob(plain)) if plain == word and "*" in word else []  # noqa: PTH207 (relative, as typed)
        arguments += there or [plain]
    assert main(arguments) == 0, line


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which the tickets that the experiments compare have been found."""
    folder = tmp_path_factory.mktemp("paper")
    make_world(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        (script,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
        for line in commands(script):
            run(line)
        yield folder


def test_all_fourteen_experiments_have_a_command():
    assert list(EXPERIMENTS) == list(range(1, 15))
    assert all(lines for _, lines in EXPERIMENTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("number", EXPERIMENTS, ids=lambda number: f"{number}-{EXPERIMENTS[number][0]}")
def test_the_commands_of_an_experiment_run(number, world, capsys):
    for line in EXPERIMENTS[number][1]:
        for command in commands(line):
            run(command)


@pytest.mark.slow
def test_the_report_shows_what_the_experiments_measured(world):
    run("lnsub report runs -o all.html --inherited")
    tables = {path.name.split(".")[1]: pd.read_csv(path) for path in world.glob("all.*.csv")}
    kinds = {record.kind for record in read_tree(world / "runs")}
    assert kinds >= {"imp", "part", "transfer", "retrieval", "similarity"}
    assert {"en+fa+fr+zh", "en", "fr"} <= set(tables["transfer"]["source"])
    assert len(SEEDS) == tables["metric_by_sparsity"]["runs"].max()
    assert set(tables["metric_by_sparsity"]["criterion"].dropna()) >= {"deviation over 2 seeds"}
    assert set(tables["across_tasks"]["source_task"]) >= {"mlm", "xnli", "random"}
    assert {"random_from:0.1", "random", "dense"} <= set(tables["baselines"]["variant"])
    assert set(tables["mixture_parts"]["language"]) == {"en", "fa", "fr", "zh"}
    # The toy model has mBERT's name, so that its numbers stand beside the paper's, and all nine findings are judged.
    assert {"published", "measured"} <= set(tables["beside_the_paper"].columns)
    assert len(tables["findings"].groupby("number")) == 9
