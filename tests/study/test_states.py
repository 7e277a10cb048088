"""The states of jobs, from what they left, what they noted, and what SLURM has of them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lnsub.common.signals import EXIT_STATUS
from lnsub.study.queue import lost_of, note_submitted
from lnsub.study.states import JobFolder, born, running_text, states_of
from tests.support.study_plans import attempted, finish, job, plan_of


def names(plan, queue=None):
    return {name: state.name for name, state in states_of(plan, queue).items()}


def test_jobs_are_ready_wait_and_are_done_in_the_order_of_their_needs(tmp_path):
    first = job(tmp_path, "first", "tokenise")
    second = job(tmp_path, "second", needs=("first",))
    third = job(tmp_path, "third", "transfer", after=("second",))
    plan = plan_of(tmp_path, first, second, third)
    assert names(plan) == {"first": "ready", "second": "waiting", "third": "waiting"}
    finish(first)
    assert names(plan) == {"first": "done", "second": "ready", "third": "waiting"}
    finish(third)
    finish(second)
    assert names(plan) == dict.fromkeys(("first", "second", "third"), "done")


def test_what_needs_a_job_that_failed_is_blocked_and_what_merely_follows_is_not(tmp_path):
    first = job(tmp_path, "first", "tokenise")
    need = job(tmp_path, "need", needs=("first",))
    further = job(tmp_path, "further", "transfer", needs=("need",))
    after = job(tmp_path, "after", "transfer", after=("first",))
    plan = plan_of(tmp_path, first, need, further, after)
    attempted(plan, first, 0, 2, log="lnsub: starts\nlnsub: error: There is no data.\nsrun: error: task 0\n")
    states = states_of(plan)
    assert [(state.name, state.reason) for state in states.values()] == [
        ("failed", "There is no data."),
        ("blocked", "needs first"),
        ("blocked", "needs need"),
        ("ready", ""),
    ]
    assert states["first"].seconds == 10  # it starts anew, so that only its last attempt counts


@pytest.mark.parametrize(
    ("statuses", "log", "state", "reason"),
    [
        ((1, EXIT_STATUS), "lnsub: SIGTERM", "interrupted", ""),
        ((EXIT_STATUS, 1), "Traceback\nValueError: bad\n", "failed", "ValueError: bad"),
        ((1,), "", "failed", "exit status 1"),
        ((-9,), "", "failed", "ended by signal 9"),
        ((1,), "lnsub: cell 3 failed: no data\nlnsub: 1 of 3 cells.\n", "failed", "cell 3 failed: no data"),
        ((0,), "", "failed", "is not whole"),
    ],
)
def test_the_last_attempt_tells_what_has_become_of_a_job(statuses, log, state, reason, tmp_path):
    one = job(tmp_path, "one")
    plan = plan_of(tmp_path, one)
    attempted(plan, one, *statuses, log=log)
    found = states_of(plan)["one"]
    assert found.name == state
    assert reason in found.reason
    finish(one)
    assert names(plan) == {"one": "done"}


def test_half_a_line_of_attempts_is_no_attempt(tmp_path):
    one = job(tmp_path, "one")
    plan = plan_of(tmp_path, one)
    folder = attempted(plan, one, 1)
    folder.attempts_file.write_text(
        '{"started": 1.0, "seconds": 2\n[1]\nnull\n' + folder.attempts_file.read_text()[:-5]
    )
    assert folder.attempts() == []
    assert names(plan) == {"one": "ready"}


def test_a_job_runs_while_its_own_process_does(tmp_path):
    one = job(tmp_path, "one")
    plan = plan_of(tmp_path, one)
    folder = attempted(plan, one, 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        folder.running_file.write_text(running_text(process.pid))
        progress = {"what": "round 1/3", "done": 0.25, "seconds_left": 30.0, "time": time.time()}
        folder.progress_file.write_text(json.dumps(progress))
        state = states_of(plan)["one"]
        assert (state.name, state.progress and state.progress.what) == ("running", "round 1/3")
        assert 10 <= state.seconds < 40
        process.kill()
        while born(process.pid) is not None:  # a zombie is no longer running
            time.sleep(0.01)
        assert names(plan) == {"one": "failed"}
    assert names(plan) == {"one": "failed"}


def test_another_process_with_the_same_number_is_not_the_job(tmp_path):
    one = job(tmp_path, "one")
    plan = plan_of(tmp_path, one)
    folder = attempted(plan, one)
    facts = json.loads(running_text(os.getpid()))
    folder.running_file.write_text(json.dumps(facts))
    assert names(plan) == {"one": "running"}
    folder.running_file.write_text(json.dumps({**facts, "born": "1"}))
    assert names(plan) == {"one": "ready"}
    for broken in ("", "[]", "null", json.dumps(facts)[:-9], json.dumps({**facts, "pid": None})):
        folder.running_file.write_text(broken)
        assert names(plan) == {"one": "ready"}


def test_a_job_on_another_machine_runs_until_it_has_been_silent_for_long(tmp_path):
    one = job(tmp_path, "one")
    plan = plan_of(tmp_path, one)
    folder = attempted(plan, one)
    folder.running_file.write_text(json.dumps({**json.loads(running_text(1)), "host": "elsewhere"}))
    assert names(plan) == {"one": "running"}
    long_ago = time.time() - 3600
    for path in folder.path.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert names(plan) == {"one": "ready"}
    folder.log.write_text("it prints")
    assert names(plan) == {"one": "running"}


def test_what_slurm_has_goes_before_what_files_say(tmp_path):
    one, two = job(tmp_path, "one"), job(tmp_path, "two", "transfer", needs=("one",))
    plan = plan_of(tmp_path, one, two)
    attempted(plan, one, 1)
    queue = {"one": ("PENDING", "SLURM: pending, Resources"), "two": ("PENDING", "SLURM: pending, Dependency")}
    states = states_of(plan, queue)
    assert [(state.name, state.reason) for state in states.values()] == [
        ("queued", "SLURM: pending, Resources"),
        ("queued", "SLURM: pending, Dependency"),
    ]
    assert names(plan, {"one": ("RUNNING", "")}) == {"one": "running", "two": "waiting"}
    # A node was lost, and with it what would have removed this file: the queue knows better.
    JobFolder(plan, one).running_file.write_text(json.dumps({"slurm": "7_0", "host": "node", "started": time.time()}))
    assert names(plan, {}) == {"one": "failed", "two": "blocked"}
    assert names(plan, {"one": ("PENDING", "")})["one"] == "queued"
    assert names(plan, {"one": ("RUNNING", "")})["one"] == "running"
    # Without an answer of the queue its own word counts.
    assert names(plan)["one"] == "running"


def test_a_page_that_is_older_than_what_it_shows_is_made_again(tmp_path):
    one = job(tmp_path, "one")
    page = job(tmp_path, "report", "report", after=("one",))
    plan = plan_of(tmp_path, one, page)
    attempted(plan, one, 0)
    for each in (one, page):
        finish(each)
    assert names(plan) == {"one": "done", "report": "done"}
    path = Path(page.leaves.shown)
    os.utime(path, (5.0, 5.0))
    state = states_of(plan)["report"]
    assert state.name == "ready"
    assert "older" in state.reason
    os.utime(path, (11.0, 11.0))  # the attempt started at 1 and took 10 seconds
    assert names(plan) == {"one": "done", "report": "done"}


def test_what_slurm_ended_has_failed_unless_the_job_itself_says_why(tmp_path):
    mute, told, whole, need = (job(tmp_path, name) for name in ("mute", "told", "whole", "need"))
    after = job(tmp_path, "after", "transfer", needs=("need",))
    plan = plan_of(tmp_path, mute, told, whole, need, after)
    attempted(plan, told, 2, log="lnsub: error: There is no data.\n")
    attempted(plan, need, 2, log="lnsub: error: There is no model.\n")
    finish(whole)
    queue = {one.id: ("LOST", "SLURM: out of memory") for one in (mute, told, whole, after)}
    states = states_of(plan, queue)
    assert {name: (state.name, state.reason) for name, state in states.items()} == {
        "mute": ("failed", "SLURM: out of memory"),
        "told": ("failed", "There is no data."),
        "whole": ("done", ""),
        "need": ("failed", "There is no model."),
        "after": ("blocked", "needs need"),
    }


def test_the_accounting_of_slurm_is_asked_where_there_is_one(tmp_path, monkeypatch):
    """What `sacct` printed on a cluster with accounting, for an array of four tasks."""
    plan = plan_of(tmp_path, *(job(tmp_path, name) for name in ("a", "b", "c", "d")))
    note_submitted(plan, {"a": "77_0", "b": "77_1", "c": "77_2", "d": "77_3"})
    assert lost_of(plan) == {}  # there is none here
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text(
        "#!/bin/sh\nprintf '77_0|COMPLETED\\n77_1|OUT_OF_MEMORY\\n77_2|CANCELLED by 1000\\n77_3|RUNNING\\n'\n"
    )
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}:{os.environ['PATH']}")
    assert lost_of(plan) == {"b": ("LOST", "SLURM: out of memory"), "c": ("LOST", "SLURM: cancelled")}
