"""Single steps of the runner, with commands that take no time."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from lnsub.study.display import Display
from lnsub.study.runner import _Runner
from lnsub.study.states import JobFolder
from tests.support.study_plans import finish, job, plan_of


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def runner_of(folder: Path, *jobs, at_once: int = 2) -> _Runner:
    plan = plan_of(folder, *jobs)
    return _Runner(plan, at_once, Display(plan, at_once, console=Console(quiet=True)))


def test_a_job_that_ended_between_two_looks_is_not_started_again(tmp_path):
    one = job(tmp_path, "one", args=("--version",))
    runner = runner_of(tmp_path, one)
    assert runner._step()
    (running,) = runner.running
    os.waitid(os.P_PID, running.process.pid, os.WEXITED | os.WNOWAIT)
    finish(one)
    assert runner._step()
    assert runner.running == [running]
    runner._collect()
    assert not runner._step()
    assert {state.name for state in runner.states.values()} == {"done"}
    assert len(running.folder.attempts()) == 1


def test_jobs_run_as_many_at_once_as_asked_for_and_each_is_tried_once(tmp_path):
    jobs = [job(tmp_path, name, args=("--version",)) for name in "abc"]
    after = job(tmp_path, "after", args=("--version",), after=("a", "b", "c"))
    needs = job(tmp_path, "needs", args=("--version",), needs=("a",))
    runner = runner_of(tmp_path, *jobs, needs, after)
    most = 0
    while runner._step():
        most = max(most, len(runner.running))
        assert len({one.slot for one in runner.running}) == len(runner.running)
        runner._sleep()
    assert most == 2
    # None of them leaves what it should: each is told of as failed, and what merely follows them ran all the same.
    assert {name: state.name for name, state in runner.states.items()} == {
        **dict.fromkeys(["a", "b", "c", "after"], "failed"),
        "needs": "blocked",
    }
    assert "is not whole" in runner.states["a"].reason
    assert (tmp_path / "study" / "jobs" / "a" / "log.txt").read_text().startswith("$ lnsub --version\n")
    assert not (tmp_path / "study" / "jobs" / "needs").exists()


def test_jobs_that_share_the_cores_get_their_share_and_each_gpu_has_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    fit, report = job(tmp_path, "fit"), job(tmp_path, "page", "report")
    runner = runner_of(tmp_path, fit, report)

    def environment(one, slot: int) -> dict[str, str]:
        return runner._environment(one, JobFolder(runner.plan, one), slot)

    assert [environment(fit, slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["4", "7"]
    assert environment(report, 1)["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert environment(fit, 0)["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert environment(fit, 0)["LNSUB_PROGRESS"].endswith("jobs/fit/progress.json")
    # Alone, a job has all there is.
    alone = runner_of(tmp_path, fit, at_once=1)
    kept = alone._environment(fit, JobFolder(alone.plan, fit), 0)
    assert kept["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert "OMP_NUM_THREADS" not in kept
