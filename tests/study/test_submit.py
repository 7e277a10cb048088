"""Arrays of jobs for SLURM: what waits for what; tests/slurm has the real thing."""

import re
import shlex
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.study.job import Job
from lnsub.study.settings import Slurm
from lnsub.study.submit import SCRIPT, arrays_of, submit
from tests.support.study_plans import finish, job, plan_of, work


def jobs_of(folder: Path, languages: str, *, aligned: bool = True) -> list[Job]:
    """Data, tickets and transfers of languages of a letter each; transfers come after all data."""
    data = [job(folder, f"data-{name}", "tokenise", place=10 + place) for place, name in enumerate(languages)]
    fits = [
        job(folder, f"fit-{name}", "fit", needs=(f"data-{name}",), place=place) for place, name in enumerate(languages)
    ]
    transfers = [
        job(folder, f"to-{name}", "transfer", needs=(f"fit-{name}",), after=tuple(one.id for one in data),
            place=place if aligned else len(languages) - place)
        for place, name in enumerate(languages)
    ]  # fmt: skip
    report = job(folder, "report", "report", after=tuple(one.id for one in (*data, *fits, *transfers)))
    return [*data, *fits, *transfers, report]


def shape(arrays):
    return [(array.name, [one.id for one in array.jobs], array.matched, array.after) for array in arrays]


def test_counterparts_wait_for_each_other_and_others_for_all(tmp_path):
    assert shape(arrays_of(jobs_of(tmp_path, "abc"))) == [
        ("tokenise", ["data-a", "data-b", "data-c"], (), ()),
        ("fit", ["fit-a", "fit-b", "fit-c"], (), ("tokenise",)),
        ("transfer", ["to-a", "to-b", "to-c"], ("fit",), ("tokenise",)),
        ("report", ["report"], (), ("fit", "tokenise", "transfer")),
    ]


def test_transfers_with_other_numbers_wait_for_all_fits(tmp_path):
    found = {array.name: array for array in arrays_of(jobs_of(tmp_path, "abc", aligned=False))}
    assert (found["transfer"].matched, found["transfer"].after) == ((), ("fit", "tokenise"))


def test_what_is_done_is_waited_for_by_nobody(tmp_path):
    left = [one for one in jobs_of(tmp_path, "abc") if one.id not in {"data-a", "data-b", "data-c", "fit-b"}]
    found = {array.name: array for array in arrays_of(left)}
    assert [one.id for one in found["fit"].jobs] == ["fit-a", "fit-c"]
    assert [one.id for one in found["transfer"].jobs] == ["to-a", "to-c"]
    assert (found["transfer"].matched, found["transfer"].after) == (("fit",), ())
    # This one's ticket is there.
    assert [one.id for one in found["transfer-2"].jobs] == ["to-b"]
    assert (found["transfer-2"].matched, found["transfer-2"].after) == ((), ())
    assert found["report"].after == ("fit", "transfer", "transfer-2")


def test_what_slurm_has_already_is_waited_for_by_its_number(tmp_path):
    left = [one for one in jobs_of(tmp_path, "ab") if one.kind in {"transfer", "report"}]
    found = arrays_of(left, {"fit-a": "77", "fit-b": "77", "data-b": "76"})
    assert shape(found) == [
        ("transfer", ["to-a", "to-b"], (), ("76", "77")),
        ("report", ["report"], (), ("76", "77", "transfer")),
    ]


def calls(said: str) -> list[dict[str, str]]:
    """The calls of sbatch that were printed, as options by name."""
    found = []
    for line in said.splitlines():
        words = shlex.split(line)
        if "sbatch" not in words:
            continue
        call = words[words.index("sbatch") + 1 :]
        assert Path(call[-1]).samefile(SCRIPT)
        assert all(re.fullmatch(r"--[a-z-]+(=.*)?", word) for word in call[:-1]), call
        found.append(dict(word[2:].partition("=")[::2] for word in call[:-1]))
    return found


def test_a_dry_run_prints_the_calls_and_writes_nothing(tmp_path, capsys):
    slurm = Slurm(partition="gpu", cpu_partition="cpu", at_once=2, time="02:00:00", options=["--constraint=a100"])
    jobs = jobs_of(tmp_path, "ab")
    assert submit(plan_of(tmp_path, *jobs, slurm=slurm), dry_run=True) == 0
    data, fit, transfer, report = calls(capsys.readouterr().out)
    assert [call["array"] for call in (data, fit, transfer, report)] == ["10,11%2", "0,1%2", "0,1%2", "0%2"]
    assert data["job-name"] == "made-up-tokenise"
    assert [call["partition"] for call in (data, fit, transfer, report)] == ["cpu", "gpu", "gpu", "cpu"]
    assert [call["gpus-per-node"] for call in (data, fit, transfer, report)] == ["0", "1", "1", "0"]
    assert [call.get("dependency") for call in (data, fit, transfer, report)] == [
        None,
        "afterany:<tokenise>",
        "aftercorr:<fit>,afterany:<tokenise>",
        "afterany:<fit>,afterany:<tokenise>,afterany:<transfer>",
    ]
    assert {call["constraint"] for call in (data, fit, transfer, report)} == {"a100"}
    assert not (tmp_path / "study" / "slurm").exists()


def test_a_study_that_is_done_submits_nothing(tmp_path, capsys):
    jobs = jobs_of(tmp_path, "a")
    for one in jobs:
        finish(one)
    assert submit(plan_of(tmp_path, *jobs), dry_run=True) == 0
    assert "all jobs are done" in capsys.readouterr().out


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path):
    one = job(tmp_path, "fit-a", work=work(batch=10))
    with pytest.raises(UserError, match="fit-a has batches of 10, which 4 processes"):
        submit(plan_of(tmp_path, one, slurm=Slurm(nodes=2, tasks_per_node=2)), dry_run=True)


def test_without_slurm_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="There is no sbatch here"):
        submit(plan_of(tmp_path, *jobs_of(tmp_path, "a")))
