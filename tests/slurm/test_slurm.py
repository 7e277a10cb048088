"""slurm/job.sbatch and `lnsub study submit` on a real SLURM of one node that says it has four GPUs."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lnsub.runs.records import read, read_tree
from lnsub.tickets.ticket import Ticket
from tests.support import slurm_node
from tests.support.slurm_node import SlurmNode
from tests.support.xnli_world import make_xnli_world

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "slurm" / "job.sbatch")
LANGUAGES = ("aa", "bb", "cc")
BATCH = ["sbatch", "--parsable", "--gpus-per-node=1", "--cpus-per-task=1", "--time=30"]
PATIENCE = 900  # seconds, for a busy machine


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    if missing := slurm_node.missing():
        pytest.skip(f"SLURM is not installed here: there is no {', '.join(missing)}")
    node = SlurmNode(cpus=4, gpus=4)
    yield node
    node.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, data in three languages, a configuration, and an `lnsub` that a job finds by sourcing ``setup``."""
    root = tmp_path_factory.mktemp("world")
    config = make_xnli_world(root, LANGUAGES, {"train": 32, "validation": 8}, seed=5, batch_size=8)
    (root / "study.yaml").write_text(yaml.safe_dump(config))
    command = root / "bin" / "lnsub"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lnsub "$@"\n')
    command.chmod(0o755)
    (root / "setup").write_text(
        f"export PATH={command.parent}:$PATH PYTHONPATH={ROOT}:${{PYTHONPATH:-}} HF_DATASETS_CACHE={root / 'cache'}\n"
        "export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false\n"
    )
    return root


def submitted(node: SlurmNode, world: Path, *command: str) -> str:
    """Runs a command that submits a job; returns its id."""
    return node.run(*command, cwd=world, env={"SETUP": str(world / "setup")}).strip()


def holding(world: Path, folder: Path, name: str, steps: list[int]) -> Path:
    """The study's configuration with a run that waits in some steps for a signal; ``<name>.mark`` counts them."""
    config = yaml.safe_load((world / "study.yaml").read_text())
    config["data"]["init_args"]["num_workers"] = 1  # whose process gets the signal too
    hold = {"steps": steps, "mark": str(folder / f"{name}.mark")}
    config["trainer"]["callbacks"].append({"class_path": "tests.support.interrupting.HoldAt", "init_args": hold})
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder / f"{name}.yaml"


def waits(mark: Path) -> int:
    return len(mark.read_text().split()) if mark.exists() else 0


def wait_for(look: Callable[[], object], result: object) -> None:
    end = time.monotonic() + PATIENCE
    while look() != result:
        assert time.monotonic() < end
        time.sleep(0.5)


def logs(folder: Path) -> str:
    return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in sorted(folder.glob("*.out")))


def tickets(runs: Path, language: str) -> dict[float, str]:
    found = [Ticket.load(path) for path in (runs / "xnli" / language / "seed5" / "tickets").iterdir()]
    return {ticket.provenance.sparsity: ticket.checksum for ticket in found}


def test_preempted_twice_by_its_time_limit_a_run_on_two_tasks_ends_with_the_tickets_of_an_undisturbed_one(
    node, world, tmp_path
):
    held = holding(world, tmp_path, "held", [3, 13])
    batch = [*BATCH, "--ntasks-per-node=2", f"--output={tmp_path}/%x-%A_%a.out", "--signal=USR1@600", "--array=0"]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=4"]
    fit = ["lnsub", "fit", f"--config={held}", f"--output={tmp_path / 'held'}", *two]
    job = submitted(node, world, *batch, SCRIPT, *fit)
    waiting = ["sbatch", "--parsable", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--output=/dev/null"]
    dependent = submitted(node, world, *waiting, "--wrap=true")

    def seen() -> tuple[int, int]:
        """How often it has begun to wait for the signal, and how often it was started again."""
        fields = node.jobs(job)["0"]
        assert fields["JobState"] in {"PENDING", "RUNNING", "COMPLETING"}, logs(tmp_path)
        return waits(tmp_path / "held.mark"), int(fields["Restarts"])

    for restarts in (0, 1):
        wait_for(seen, (restarts + 1, restarts))
        # Its time is over in less than the warning that it asked for, so that SLURM warns it now.
        minutes = int(node.jobs(job)["0"]["RunTime"].split(":")[1]) + 2
        node.run("scontrol", "update", f"JobId={job}_0", f"TimeLimit={minutes}")
        wait_for(seen, (restarts + 1, restarts + 1))
        node.run("scontrol", "update", f"JobId={job}_0", "TimeLimit=30")
        assert node.jobs(dependent)[""]["JobState"] == "PENDING"
    node.wait([job, dependent], PATIENCE)
    (fields,) = node.jobs(job).values()
    assert (fields["JobState"], fields["Restarts"]) == ("COMPLETED", "2"), logs(tmp_path)
    assert node.jobs(dependent)[""]["JobState"] == "COMPLETED"
    said = logs(tmp_path)
    assert re.findall(r"SIGUSR1: saved at step (\d+); job (\S+) is requeued", said) == [
        ("5", f"{job}_0"),
        ("15", f"{job}_0"),
    ]

    whole = ["--config", str(world / "study.yaml"), "--output", str(tmp_path / "whole")]
    done = subprocess.run(
        [sys.executable, "-m", "lnsub", "fit", *whole, *two, "--data.init_args.language=aa"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(world / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert tickets(tmp_path / "held", "aa") == tickets(tmp_path / "whole", "aa")
    results = [
        [(r.round, r.metric, r.value) for r in read(tmp_path / name / "xnli" / "aa" / "seed5" / "results.jsonl")]
        for name in ("held", "whole")
    ]
    assert results[0] == results[1]


def test_a_cancelled_job_and_one_without_requeueing_are_saved_and_not_requeued(node, world, tmp_path):
    jobs = {}
    for name, options in (("cancelled", []), ("once", ["--no-requeue"])):
        batch = [*BATCH, f"--job-name={name}", f"--output={tmp_path}/%x.out", "--array=0", *options]
        fit = ["lnsub", "fit", f"--config={holding(world, tmp_path, name, [3])}", f"--output={tmp_path / name}"]
        jobs[name] = submitted(node, world, *batch, SCRIPT, *fit)
    wait_for(lambda: [waits(tmp_path / f"{name}.mark") for name in jobs], [1, 1])
    node.run("scancel", jobs["cancelled"])
    node.run("scancel", "--signal=USR1", jobs["once"])
    node.wait(list(jobs.values()), PATIENCE)
    said = {name: (tmp_path / f"{name}.out").read_text() for name in jobs}
    assert re.search(rf"SIGTERM: saved at step 5; .*{jobs['cancelled']}.* not requeued", said["cancelled"])
    assert re.search(rf"SIGUSR1: saved at step 5; .* not requeue job {jobs['once']}", said["once"])
    assert node.jobs(jobs["cancelled"])["0"]["JobState"] == "CANCELLED"
    fields = node.jobs(jobs["once"])["0"]
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "75:0")
    for name in jobs:
        assert (tmp_path / name / "xnli" / "aa" / "seed5" / "checkpoints" / "last.ckpt").exists()


def test_a_study_is_submitted_at_once_up_to_its_page(node, world, tmp_path):
    """One language's data is broken, and both others' runs are preempted: the rest goes on, and `status` tells."""
    broken = tmp_path / "data"
    for language in ("aa", "bb", "cc"):
        shutil.copytree(world / "data" / language, broken / language)
    (broken / "cc" / "train.jsonl").write_text('{"premise": "w1", "hypothesis": "w2", "label": 7}\n')
    study = {
        "name": "held",
        "output": str(tmp_path / "runs"),
        "tasks": {"xnli": {"config": str(holding(world, tmp_path, "held", [3])), "languages": list(LANGUAGES)}},
        "settings": {"data.init_args.dataset": str(broken)},
        "seeds": [5],
        # Without what holds the fits.
        "transfer": {"sparsities": [0.6], "baselines": ["dense"], "config": {"xnli": str(world / "study.yaml")}},
        "report": {"inherited": False},
        "slurm": {"cpus_per_task": 1, "time": "30", "setup": str(world / "setup")},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))

    def run(verb: str, *options: str) -> str:
        env = {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(world / "cache"), "COLUMNS": "200"}
        command = (sys.executable, "-m", "lnsub", "study", verb, str(tmp_path / "study.yaml"), *options)
        return node.run(*command, cwd=world, env=env)

    def states() -> dict[str, str]:
        found = re.findall(r"^(\w+) +((?:tokenise|fit|transfer|report)\S*)", run("status"), re.M)
        return {name: state for state, name in found}

    assert "ready    tokenise-xnli-aa" in run("status")
    said = run("submit")
    arrays = dict(re.findall(r"^(\w+) +job (\d+), .*$", said, re.M))
    assert list(arrays) == ["tokenise", "fit", "transfer", "report"]
    assert re.findall(r"(aftercorr|afterany):(\d+)", said) == [
        ("aftercorr", arrays["tokenise"]),
        ("aftercorr", arrays["fit"]),
        ("afterany", arrays["tokenise"]),
        *(("afterany", arrays[kind]) for kind in ("fit", "tokenise", "transfer")),
    ]
    assert states()["transfer-xnli-bb-seed5"] == "queued"
    assert "Nothing to submit" in run("submit")  # what SLURM has is not submitted twice

    wait_for(lambda: waits(tmp_path / "held.mark"), 2)
    assert states() | {"report": "queued"} == states()
    assert [states()[f"fit-xnli-{language}-seed5"] for language in LANGUAGES] == ["running", "running", "blocked"]
    assert "gres:gpu:1" in node.jobs(arrays["fit"])["0"]["TresPerNode"]
    status = run("status")
    assert re.search(r"failed +tokenise-xnli-cc .*label", status), status
    for task in (0, 1):
        node.run("scancel", "--signal=USR1", f"{arrays['fit']}_{task}")
    node.wait(list(arrays.values()), PATIENCE)
    restarts = [node.jobs(arrays["fit"])[task]["Restarts"] for task in ("0", "1")]
    assert restarts == ["1", "1"], logs(tmp_path)

    assert states() == {
        "tokenise-xnli-cc": "failed",
        "fit-xnli-cc-seed5": "blocked",
        "transfer-xnli-aa-seed5": "failed",
        "transfer-xnli-bb-seed5": "failed",
        "transfer-xnli-cc-seed5": "blocked",
    }
    assert re.search(r"failed +transfer-xnli-aa-seed5 .*cells failed", run("status"))
    assert node.jobs(arrays["transfer"])["2"]["JobState"] == "CANCELLED"
    records = read_tree(tmp_path / "runs" / "transfer")
    cells = {(r.source, r.target, r.sparsity) for r in records if r.metric == "accuracy" and r.kind == "transfer"}
    good = ("aa", "bb")
    assert cells >= {(source, target, 0.6) for source in good for target in good}
    assert "cc" not in {target for _, target, _ in cells}
    page = (tmp_path / "runs" / "report.html").read_text()
    assert all(f">{language}<" in page for language in good)

    # With the data mended, the same command submits what is missing, and only that.
    shutil.copy(world / "data" / "cc" / "train.jsonl", broken / "cc" / "train.jsonl")
    again = run("submit", "--dry-run")
    assert re.findall(r"--array=(\S+)", again) == ["2", "2", "0,1", "2", "0"]
