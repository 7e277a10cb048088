"""How long jobs may take: schedules against a second implementation, and rates against arithmetic by hand."""

import random
from collections.abc import Sequence

import pytest

from lnsub.common.progress_file import Progress
from lnsub.data.receipts import Receipt, receipt_path
from lnsub.study.estimates import OTHERS, PER_CORE, PER_FIT, PER_GPU, STARTING, estimate, makespan, usable_cores
from lnsub.study.job import Job
from lnsub.study.plan import Plan
from lnsub.study.states import State
from tests.support.study_plans import job, plan_of, work


def by_seconds(jobs: Sequence[Job], seconds: dict[str, int], at_once: int) -> int:
    """The same schedule, second by second: whoever may start and comes first in the plan does."""
    left, running, ended = dict(seconds), list[str](), set[str]()
    now = 0
    while len(ended) < len(jobs):
        started = True
        while started:
            started = False
            for one in jobs:
                free = len(running) < at_once and one.id not in ended and one.id not in running
                if free and {*one.needs, *one.after} <= ended:
                    running.append(one.id)
                    started = True
                    if not left[one.id]:
                        running.remove(one.id)
                        ended.add(one.id)
        if not running:
            break
        now += 1
        for name in list(running):
            left[name] -= 1
            if left[name] == 0:
                running.remove(name)
                ended.add(name)
    return now


@pytest.mark.parametrize("seed", range(20))
def test_the_time_of_all_is_that_of_a_schedule_by_the_second(seed, tmp_path):
    rng = random.Random(seed)
    jobs: list[Job] = []
    for number in range(rng.randint(1, 12)):
        earlier = [one.id for one in jobs if rng.random() < 0.3]
        cut = rng.randint(0, len(earlier))
        jobs.append(job(tmp_path, f"job{number}", needs=tuple(earlier[:cut]), after=tuple(earlier[cut:])))
    seconds = {one.id: rng.choice([0, 0, 1, 2, 5, 9]) for one in jobs}
    for at_once in (1, 2, 3):
        assert makespan(jobs, dict(seconds), at_once) == by_seconds(jobs, seconds, at_once)
    assert makespan(jobs, dict(seconds), 1) == sum(seconds.values())
    assert makespan(jobs, {**seconds, jobs[0].id: None}, 1) is None


def test_a_schedule_by_hand(tmp_path):
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "b"),
        job(tmp_path, "c", needs=("a",)),
        job(tmp_path, "d", after=("b", "c")),
    ]
    # a 0-4, b 0-3, c 4-9, d 9-10: two places are as good as three.
    seconds = {"a": 4.0, "b": 3.0, "c": 5.0, "d": 1.0}
    assert [makespan(jobs, seconds, at_once) for at_once in (1, 2, 3)] == [13, 10, 10]


def ready(plan: Plan, **changes: State) -> dict[str, State]:
    return {one.id: changes.get(one.id, State("ready")) for one in plan.jobs}


def test_before_anything_has_run_recorded_rates_stand_in(tmp_path):
    plan = plan_of(tmp_path, job(tmp_path, "fit", work=work()), job(tmp_path, "report", "report"))
    found = estimate(plan, ready(plan))
    # Forty tokens a row, six operations a weight and token, three rounds; nothing is known of the validation split.
    operations = 6 * 10_000_000 * 100 * 40 * 3
    expected = operations / (PER_CORE * usable_cores()) + STARTING + 3 * PER_FIT
    assert found.whole == {"fit": pytest.approx(expected), "report": OTHERS["report"]}
    assert found.left == found.whole
    assert not found.measured
    assert estimate(plan, ready(plan), gpus=1).whole["fit"] == pytest.approx(
        operations / PER_GPU + STARTING + 3 * PER_FIT
    )
    # Two at once share the cores.
    two = estimate(plan, ready(plan), at_once=2).whole["fit"]
    assert two == pytest.approx(operations / (PER_CORE * max(1, usable_cores() / 2)) + STARTING + 3 * PER_FIT)


def test_tokens_that_were_counted_replace_guesses(tmp_path):
    work_of = work(rows=None)
    prepared = job(tmp_path, "tokenise-xnli-fr", "tokenise", work=work(fits=0, rows=None))
    plan = plan_of(tmp_path, prepared, job(tmp_path, "fit", work=work_of))
    found = estimate(plan, ready(plan))
    assert found.whole["fit"] is None
    assert found.total(plan, 1) is None
    counts = ({"train": 50, "validation": 10}, {"train": 1000, "validation": 200})
    Receipt("xnli", "fr", "m", "d", False, *counts, []).write(receipt_path(plan.own / "data", "xnli", "fr"))
    operations = 10_000_000 * (6 * 1000 * 3 + 2 * 200 * 6)
    expected = operations / (PER_CORE * usable_cores()) + STARTING + 3 * PER_FIT
    assert estimate(plan, ready(plan)).whole["fit"] == pytest.approx(expected)


def test_after_one_has_run_another_of_its_size_takes_as_long(tmp_path):
    jobs = [job(tmp_path, name, work=work(fits=fits)) for name, fits in (("one", 3), ("same", 3), ("double", 6))]
    plan = plan_of(tmp_path, *jobs)
    found = estimate(plan, ready(plan, one=State("done", seconds=500.0)))
    assert found.measured
    assert found.whole["same"] == pytest.approx(500)
    assert found.whole["double"] == pytest.approx(2 * (500 - STARTING - 3 * PER_FIT) + STARTING + 6 * PER_FIT)
    assert found.left == {"one": 0.0, "same": found.whole["same"], "double": found.whole["double"]}
    # Another task has no rate of its own yet, and takes this one's.
    other = plan_of(tmp_path, *jobs, job(tmp_path, "other", work=work(task="mlm")))
    assert estimate(other, ready(other, one=State("done", seconds=500.0))).whole["other"] == pytest.approx(500)


def test_a_job_that_runs_tells_how_long_it_and_its_like_will_take(tmp_path):
    jobs = [job(tmp_path, name, work=work()) for name in ("one", "same")]
    plan = plan_of(tmp_path, *jobs)
    running = State("running", progress=Progress("round 1", 0.25, 300.0), seconds=100.0)
    found = estimate(plan, ready(plan, one=running))
    assert found.left["one"] == 300
    assert found.whole["same"] == pytest.approx(400)
    assert found.total(plan, 1) == pytest.approx(700)
    assert found.total(plan, 2) == pytest.approx(400)
    # What failed takes no more time, as far as anybody knows.
    assert estimate(plan, ready(plan, one=State("failed", seconds=3.0))).left["one"] == 0


def test_jobs_without_training_take_as_long_as_their_like_have(tmp_path):
    jobs = [job(tmp_path, name, "tokenise", work=work(fits=0)) for name in ("a", "b", "c")]
    plan = plan_of(tmp_path, *jobs)
    found = estimate(plan, ready(plan, a=State("done", seconds=4.0), b=State("failed", seconds=900.0)))
    assert found.whole["c"] == 4
