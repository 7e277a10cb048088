"""A tiny study as real processes: to its end, with data that is broken at first, and killed on its way."""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from lnsub.study.file import read_study
from lnsub.study.plan import make_plan
from lnsub.study.states import states_of
from tests.study.killing import Killer
from tests.support.study_world import attempts, environment, left, make_study_world, ran, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world of a study whose runs take a few seconds of steps."""
    root = tmp_path_factory.mktemp("world")
    make_study_world(root, rows=240)
    return root


@pytest.fixture(scope="module")
def finished(world: Path) -> dict[str, Any]:
    """What a study said and left at two commands: bb's data is broken at the first, and whole at the second."""
    broken = world / "data" / "bb" / "validation.jsonl"
    text = broken.read_text()
    broken.write_text(text + json.dumps({"premise": "w1", "hypothesis": "w2", "label": 7}) + "\n")
    first = ran(world, "run", "study.yaml", "--jobs", "2")
    noted = attempts(world / "out")
    status = ran(world, "status", "study.yaml")
    broken.write_text(text)
    second = ran(world, "run", "study.yaml", "--jobs", "2")
    return {"first": first, "first attempts": noted, "status": status, "second": second, "left": left(world / "out")}


def test_a_language_that_fails_stops_no_other_and_is_tried_again(world, finished):
    status, said = finished["first"]
    assert status == 1, said
    assert "tokenise-xnli-bb failed: " in said
    assert "label" in said
    assert "not run, as they need what failed: fit-xnli-bb-seed5, transfer-xnli-bb-seed5" in said
    noted = finished["first attempts"]
    assert noted["fit-xnli-aa-seed5"] == [0]
    assert noted["report"] == [0]
    assert noted["tokenise-xnli-bb"][0] != 0
    assert "fit-xnli-bb-seed5" not in noted
    status, said = finished["status"]
    assert status == 0
    assert {line.split()[0] for line in said.splitlines()} >= {"failed", "blocked"}
    status, said = finished["second"]
    assert (status, said.splitlines()[-1]) == (0, f"All 7 jobs are done: {world / 'out' / 'report.html'}")
    noted = attempts(world / "out")
    # Done the first time, it was not done again; the page shows what has come since.
    assert noted["fit-xnli-aa-seed5"] == [0]
    assert noted["fit-xnli-bb-seed5"] == [0]
    assert noted["report"] == [0, 0]


def test_a_study_leaves_every_ticket_and_record_once(world, finished, monkeypatch):
    monkeypatch.chdir(world)
    plan = make_plan(read_study(world / "study.yaml"))
    states = states_of(plan)
    assert {state.name for state in states.values()} == {"done"}
    runs = [name for name in finished["left"]["tickets"] if name.startswith("xnli/")]
    assert len(runs) == 2 * 2
    # Three rounds of two languages; of each source two cells, dense and random on its own.
    assert len(finished["left"]["records"]) == 2 * 3 + 2 * (2 + 1 + 1)
    assert len(set(finished["left"]["records"])) == len(finished["left"]["records"])
    for job in plan.jobs:
        assert f"$ {job.command}\n" in (plan.own / "jobs" / job.id / "log.txt").read_text()
        assert not (plan.own / "jobs" / job.id / "running.json").exists()
    assert (world / "out" / "report.html").stat().st_size > 10_000
    before = attempts(world / "out")
    assert ran(world, "run", "study.yaml")[0] == 0
    assert attempts(world / "out") == before


def test_killed_in_every_way_it_ends_with_what_an_undisturbed_study_leaves(world, finished):
    undisturbed = world / "undisturbed"
    shutil.copytree(world / "out", undisturbed)
    shutil.rmtree(world / "out" / "xnli")
    command = [sys.executable, "-m", "lnsub", "study", "run", "study.yaml"]
    killer = Killer(command, world / "out", random.Random(3), 6.0, environment(world), world)
    assert killer.disturb(2) == 2
    # Meanwhile another command of the same study is refused.
    process = start(world, "run", "study.yaml")
    while process.poll() is None and not killer.running():
        pass
    status, said = ran(world, "run", "study.yaml")
    assert status == 2
    assert "in use by another `lnsub study run`" in said
    said, _ = process.communicate()
    assert process.returncode == 0, said
    killer.compare(undisturbed)
    assert killer.wrong == []
