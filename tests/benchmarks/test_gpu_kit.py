"""The kit for a GPU machine, dry: its experiments run at toy sizes, and its scripts are whole."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.gpu.probe import EXPERIMENTS, main

KIT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kit"


def test_experiments_run_and_keep_their_numbers(tmp_path):
    names = set(EXPERIMENTS) - {"captured_compiled"}  # which needs a compiler, for a minute
    assert main(["--device", "cpu", "--tiny", "--only", ",".join(names), "--json", str(tmp_path / "probe.json")]) == 0
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["device"] == "CPU"
    assert found["captured: all weights finite"] == found["eager, cuDNN off: all weights finite"] == "True"
    assert found["NaN in a gradient, cuDNN off"] == 0


def test_an_experiment_that_fails_costs_the_others_nothing(monkeypatch, tmp_path, capfd):
    def failing(_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(EXPERIMENTS, "nan", failing)
    assert main(["--device", "cpu", "--tiny", "--only", "nan,facts", "--json", str(tmp_path / "probe.json")]) == 1
    assert {"nan: FAILED", "device"} <= json.loads((tmp_path / "probe.json").read_text()).keys()


@pytest.mark.parametrize("args", [["--only", "x"], ["--device", "cpu"]])
def test_bad_arguments_are_refused(args):
    with pytest.raises(SystemExit):
        main([*args, *(["--device", "cpu", "--tiny"] if "x" in args else [])])


def test_the_scripts_are_whole_and_a_stage_that_is_none_is_refused(tmp_path):
    for script in KIT.glob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    empty = {"OUT": str(tmp_path / "out"), "WORK": str(tmp_path / "work"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", KIT / "run.sh", "benchh"], env=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no stage benchh" in done.stderr


def test_the_tests_that_the_kit_names_are_there():
    named = [word for word in (KIT / "run.sh").read_text().split() if word.startswith("tests/")]
    assert named
    for name in named:
        assert (KIT.parents[2] / name.rstrip(")")).is_file()
