"""`lnsub study` from the command line, where nothing is run."""

import json
import shlex
from pathlib import Path

import datasets
import pytest

from lnsub.cli.main import main
from tests.support.command import said
from tests.support.study_world import make_study_world, study_of, write_study


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_study_world(root)
    return root


@pytest.fixture
def study(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study file whose folder is the test's own; no GPU is asked for."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("COLUMNS", "200")
    return str(write_study(world, output=str(tmp_path / "out")))


JOBS = [
    "tokenise-xnli-aa",
    "tokenise-xnli-bb",
    "fit-xnli-aa-seed5",
    "fit-xnli-bb-seed5",
    "transfer-xnli-aa-seed5",
    "transfer-xnli-bb-seed5",
    "report",
]


def test_a_plan_shows_every_job_with_its_command_and_state(study, capsys):
    assert main(["study", "plan", study, "--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [shlex.split(line)[:2] for line in lines] == [
        ["lnsub", command] for command in ("prepare", "prepare", "fit", "fit", "transfer", "transfer", "report")
    ]
    assert main(["study", "plan", study, "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    heads = [line.split()[:2] for line in out.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert [name for name, _ in heads] == JOBS
    assert [state for _, state in heads] == ["ready", "ready", *["waiting"] * 5]
    for line in lines:
        assert f"$      {line}\n" in out
    assert "time unknown until its data is tokenised" in out
    assert "7 jobs, 2 at a time" in out


def test_a_status_names_what_is_not_done(study, capsys, tmp_path):
    assert main(["study", "status", study]) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.split()[0] in {"ready", "waiting"}] == JOBS
    assert f"{tmp_path / 'out'}: 7 jobs: 2 ready, 5 waiting" in out


def test_a_setting_of_the_file_is_overridden(study, capsys, tmp_path):
    args = ["--set", "tasks.xnli.languages=[cc]", "--set", "settings.trainer.max_epochs=3", "--set", "transfer=null"]
    assert main(["study", "plan", study, "--commands", *args]) == 0
    prepare, fit, report = capsys.readouterr().out.splitlines()
    assert "--languages cc" in prepare
    assert "--trainer.max_epochs=3 --data.init_args.language=cc --seed_everything=5" in fit
    assert report.startswith(f"lnsub report {tmp_path / 'out'}")


def test_a_dry_run_hands_nothing_to_slurm(study, capsys, tmp_path):
    assert main(["study", "submit", study, "--dry-run"]) == 0
    calls = [line for line in capsys.readouterr().out.splitlines() if " sbatch " in line]
    assert len(calls) == 4
    assert json.loads((tmp_path / "out" / "study" / "plan.json").read_text())["jobs"]
    assert not (tmp_path / "out" / "study" / "submitted.json").exists()


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (["plan", "missing.yaml"], "There is no study file missing.yaml"),
        (["plan"], "the following arguments are required: FILE"),
        (["pln", "{study}"], "invalid choice: 'pln'"),
        (["plan", "{study}", "--set", "name"], "--set takes SETTING=VALUE"),
        (["plan", "{study}", "--set", "--name=x"], "--set"),
        (["plan", "{study}", "--set", "nam=x"], "did you mean name?"),
        (["plan", "{study}", "--jobs", "0"], "--jobs is 0"),
        (["run", "{study}", "--jobs", "2000"], "--jobs is 2000"),
        (["status", "{study}", "--jobs", "x"], "--jobs"),
        (["run", "{study}", "--set", "tasks.xnli.languages=[dd]"], "dd"),
        (["submit", "{study}", "--jobs", "2"], "--jobs"),
    ],
)
def test_bad_input_is_one_sentence(args, fact, study, capsys, tmp_path):
    assert fact in said(capsys, ["study", *(arg.replace("{study}", study) for arg in args)])
    assert not (tmp_path / "out" / "study" / "jobs").exists()


def test_a_study_file_is_refused_with_its_name(world, capsys):
    path = write_study(world, "bad.yaml", seeds=[])
    assert said(capsys, ["study", "status", str(path)]) == f"lnsub: error: {path}: seeds is empty: name at least one."
    assert study_of(world)["seeds"] == [5]
