"""The scripts of slurm/ on a real SLURM of one node: arrays, preemption by the time limit, a whole study."""

import os
import re
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
LANGUAGES = ("aa", "bb", "cc")
CPU = {"GPUS_PER_NODE": "0", "CPUS_PER_TASK": "1"}
BATCH = ["sbatch", "--parsable", "--gpus-per-node=0", "--cpus-per-task=1", "--time=30"]
PATIENCE = 900  # seconds, for a busy machine


@pytest.fixture(scope="module")
def node() -> Iterator[SlurmNode]:
    if missing := slurm_node.missing():
        pytest.skip(f"SLURM is not installed here: there is no {', '.join(missing)}")
    node = SlurmNode(cpus=4)
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


def submitted(node: SlurmNode, world: Path, *command: str, **variables: object) -> list[str]:
    """Runs a command that submits jobs; returns their ids."""
    env = {"LANGUAGES": " ".join(LANGUAGES), "SETUP": str(world / "setup"), **{k: str(v) for k, v in variables.items()}}
    return re.findall(r"(?:^|job )(\d+)", node.run(*command, cwd=world, env=env), re.M)


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


def test_an_array_over_three_languages(node, world, tmp_path):
    batch = [*BATCH, f"--output={tmp_path}/%x-%A_%a.out", "--array=0-2"]
    script = [str(ROOT / "slurm" / "imp.sbatch"), str(world / "study.yaml"), "--trainer.callbacks.sparsities=[0.5]"]
    (job,) = submitted(node, world, *batch, *script, OUTPUT=tmp_path / "runs")
    node.wait([job], PATIENCE)
    assert {task: fields["JobState"] for task, fields in node.jobs(job).items()} == dict.fromkeys(
        ("0", "1", "2"), "COMPLETED"
    ), logs(tmp_path)
    assert {path.name for path in tmp_path.glob("*.out")} == {f"lnsub-imp-{job}_{i}.out" for i in range(3)}
    found = {language: tickets(tmp_path / "runs", language) for language in LANGUAGES}
    assert all(list(of) == [0.5] for of in found.values())
    assert len({checksum for of in found.values() for checksum in of.values()}) == 3


def test_preempted_twice_by_its_time_limit_a_run_on_two_tasks_ends_with_the_tickets_of_an_undisturbed_one(
    node, world, tmp_path
):
    held = holding(world, tmp_path, "held", [3, 13])
    batch = [*BATCH, "--ntasks-per-node=2", f"--output={tmp_path}/%x-%A_%a.out", "--signal=USR1@600", "--array=0"]
    script = [str(ROOT / "slurm" / "imp.sbatch"), str(held)]
    (job,) = submitted(node, world, *batch, *script, OUTPUT=tmp_path / "held", BATCH_SIZE=8)
    waiting = ["sbatch", "--parsable", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--output=/dev/null"]
    (dependent,) = submitted(node, world, *waiting, "--wrap=true")

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
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=4"]
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
        script = [str(ROOT / "slurm" / "imp.sbatch"), str(holding(world, tmp_path, name, [3]))]
        (jobs[name],) = submitted(node, world, *batch, *script, OUTPUT=tmp_path / name)
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


def test_a_whole_study_is_submitted_at_once_up_to_its_page(node, world, tmp_path):
    study = tmp_path / "study"
    variables = {**CPU, "STUDY": study, "SPARSITIES": "0.3,0.6", "SHARES": 2, "TIME": "30"}
    jobs = submitted(
        node, world, str(ROOT / "slurm" / "submit.sh"), "study.yaml", "--trainer.max_epochs=1", **variables
    )
    imp, transfer, report = jobs
    assert f"afterok:{imp}" in node.jobs(transfer)["1-2"]["Dependency"]
    node.wait([imp, transfer, report], PATIENCE)
    states = {fields["JobState"] for job in (imp, transfer, report) for fields in node.jobs(job).values()}
    assert states == {"COMPLETED"}, logs(study / "logs")
    assert {path.name for path in (study / "logs").iterdir()} == {
        *(f"study-imp-{imp}_{i}.out" for i in range(3)),
        *(f"study-transfer-{transfer}_{i}.out" for i in (1, 2)),
        f"study-report-{report}.out",
    }
    cells = [(r.source, r.target, r.sparsity) for r in read_tree(study / "transfer") if r.metric == "accuracy"]
    assert sorted(cells) == [(s, t, x) for s in LANGUAGES for t in LANGUAGES for x in (0.3, 0.6)]
    page = (study / "report.html").read_text()
    assert all(f">{language}<" in page for language in LANGUAGES)


def test_where_tickets_fail_the_transfer_is_not_left_waiting(node, world, tmp_path):
    variables = {**CPU, "STUDY": tmp_path / "study", "LANGUAGES": "zz", "TIME": "30"}
    imp, transfer, _ = submitted(node, world, str(ROOT / "slurm" / "submit.sh"), "study.yaml", **variables)
    node.wait([imp], PATIENCE)
    fields = node.jobs(imp)["0"]
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "2:0")
    assert "no language 'zz'" in logs(tmp_path / "study" / "logs")
    node.wait([transfer], 60)
    assert {fields["JobState"] for fields in node.jobs(transfer).values()} == {"CANCELLED"}
