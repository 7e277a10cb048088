"""Signals: a run stops where nothing is lost, on all ranks at once, says so, and ends as one that was undisturbed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import torch
import yaml

from lnsub.cli.main import main
from lnsub.common.locks import claimed
from lnsub.common.signals import EXIT_STATUS, SIGNALS, Preempted, deferred_signals, pending
from lnsub.runs.records import read, read_tree
from lnsub.tickets.ticket import Ticket
from tests.support import ddp_cases
from tests.support.processes import on_ranks
from tests.support.xnli_world import make_xnli_world

SEED = 3
STEPS = 8  # of a round: 2 epochs of 4


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("datasets-cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with dropout, data in two languages, and a configuration."""
    root = tmp_path_factory.mktemp("world")
    config = make_xnli_world(root, ("aa", "bb"), {"train": 16, "validation": 6}, seed=SEED, batch_size=4)
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


def disturbed(world: Path, folder: Path, step: int, name: str, rank: int = 0) -> Path:
    """The same configuration with a signal in it."""
    config = yaml.safe_load((world / "config.yaml").read_text())
    config["trainer"]["callbacks"].append(
        {"class_path": "tests.support.interrupting.SignalAt", "init_args": {"step": step, "name": name, "rank": rank}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def made(output: Path) -> tuple[list[str], list[tuple[int | None, str, float]]]:
    """What a run is for: its tickets' checksums, and its results."""
    folder = output / "xnli" / "aa" / f"seed{SEED}"
    tickets = [Ticket.load(path).checksum for path in sorted((folder / "tickets").iterdir())]
    return tickets, [(r.round, r.metric, r.value) for r in read(folder / "results.jsonl")]


@pytest.fixture(scope="module")
def undisturbed(world: Path) -> tuple[list[str], list[tuple[int | None, str, float]]]:
    assert main(["fit", "--config", str(world / "config.yaml"), "--output", str(world / "runs")]) == 0
    return made(world / "runs")


@pytest.mark.parametrize(
    ("name", "step", "stopped"),
    [
        ("SIGUSR1", 1, "saved at step 3"),  # in a step, voted on at its end, handled at the end of the next
        ("SIGTERM", STEPS + 5, f"saved at step {STEPS + 7}"),
        ("SIGINT", STEPS + 2, f"saved at step {STEPS + 4}"),  # the end of an epoch: its validation is still to come
        ("SIGUSR1", STEPS - 1, "before the first step"),  # the last step of a round: that is finished first
    ],
)
def test_an_interrupted_run_says_so_and_ends_as_an_uninterrupted_one(
    world, undisturbed, tmp_path, capsys, name, step, stopped
):
    config = disturbed(world, tmp_path, step, name)
    handlers = [signal.getsignal(signum) for signum in SIGNALS]
    args = ["fit", "--config", str(config), "--output", str(tmp_path)]
    assert main(args) == EXIT_STATUS == 75
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "interrupted" in line)
    assert line.startswith("lnsub: ")
    assert name in line
    assert stopped in line
    assert [signal.getsignal(signum) for signum in SIGNALS] == handlers
    assert main(args) == 0
    assert made(tmp_path) == undisturbed


def test_gradients_are_never_accumulated_over_an_interruption(world, tmp_path, capsys):
    setting = ["--trainer.accumulate_grad_batches=3", "--data.init_args.batch_size=2"]
    args = ["fit", "--config", str(world / "config.yaml"), *setting]
    assert main([*args, "--output", str(tmp_path / "whole")]) == 0
    args[2] = str(disturbed(world, tmp_path, 1, "SIGUSR1"))
    assert main([*args, "--output", str(tmp_path / "cut")]) == EXIT_STATUS
    # An epoch's eight batches are three steps: the signal comes in the second, and is handled in the third.
    assert "step 3" in capsys.readouterr().err
    assert main([*args, "--output", str(tmp_path / "cut")]) == 0
    assert made(tmp_path / "cut") == made(tmp_path / "whole")


def test_an_interrupted_transfer_leaves_its_cell_to_the_next_run(world, undisturbed, tmp_path, capsys):
    tickets = str(world / "runs" / "**" / "s0.30.safetensors")
    config = disturbed(world, tmp_path, 2, "SIGTERM")
    args = ["transfer", "--tickets", tickets, "--languages", "aa,bb", "--config"]
    assert main([*args, str(world / "config.yaml"), "--output", str(tmp_path / "whole")]) == 0
    assert main([*args, str(config), "--output", str(tmp_path / "cut")]) == EXIT_STATUS
    assert "SIGTERM" in capsys.readouterr().err
    assert read_tree(tmp_path / "cut") == []
    assert not list(tmp_path.rglob("failed.json"))
    (folder,) = (tmp_path / "cut" / "cells").iterdir()
    with claimed(folder) as ours:
        assert ours
    # Without the signal: each cell has steps of its own, so that one with it would never get past the second.
    config.write_text((world / "config.yaml").read_text())
    settings = tmp_path / "cut" / "xnli.yaml"
    settings.write_text((tmp_path / "whole" / "xnli.yaml").read_text())
    assert main([*args, str(config), "--output", str(tmp_path / "cut")]) == 0
    whole, cut = ({(r.target, r.metric): r.value for r in read_tree(tmp_path / name)} for name in ("whole", "cut"))
    assert cut == whole
    assert len(whole) >= 2


def test_whoever_waits_for_a_folder_stops_at_a_signal(tmp_path):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            with pytest.raises(Preempted, match=f"SIGUSR1.*{tmp_path}"), claimed(tmp_path, wait=True):
                pass
        holder.communicate(b"\n")


def test_the_first_signal_counts_and_a_second_ctrl_c_stops_at_once():
    with deferred_signals():
        assert pending() is None
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert pending() is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_checkpoint_that_lightning_would_load_by_itself_is_refused(world, tmp_path, capsys):
    folder = tmp_path / "xnli" / "aa" / f"seed{SEED}"
    folder.mkdir(parents=True)
    (folder / "hpc_ckpt_1.ckpt").touch()
    assert main(["fit", "--config", str(world / "config.yaml"), "--output", str(tmp_path)]) == 2
    assert "hpc_ckpt_1.ckpt" in capsys.readouterr().err


def program(*args: str) -> subprocess.Popen[str]:
    """The real program, as a user starts it."""
    return subprocess.Popen([sys.executable, "-m", "lnsub", *args], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_signal_while_torch_is_imported_is_noted(world, tmp_path):
    process = program("fit", "--config", str(world / "config.yaml"), "--output", str(tmp_path))
    bit = 1 << (signal.SIGUSR1 - 1)
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & bit:
        assert process.poll() is None
        time.sleep(0.001)
    assert "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text()
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=300)
    assert process.returncode == EXIT_STATUS, said
    assert "before the first step" in said


@pytest.mark.slow
def test_signals_to_all_processes_of_a_run_leave_its_workers_alive(world, undisturbed, tmp_path):
    config = yaml.safe_load((world / "config.yaml").read_text())
    hold = {"steps": [STEPS + 1], "mark": str(tmp_path / "mark")}
    config["trainer"]["callbacks"].append({"class_path": "tests.support.interrupting.HoldAt", "init_args": hold})
    config["data"]["init_args"]["num_workers"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    args = ["fit", "--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lnsub", *args], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (tmp_path / "mark").exists():
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(4):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.005)
    _, said = process.communicate(timeout=300)
    assert process.returncode == EXIT_STATUS, said
    assert f"saved at step {STEPS + 3}" in said
    assert main(args) == 0
    assert made(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_stop_at_the_same_step_whichever_gets_the_signal(world, tmp_path, cache, rank):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=2"]
    config = disturbed(world, tmp_path, STEPS + 2, "SIGUSR1", rank)
    cut = ["fit", "--config", str(config), *two, "--output", str(tmp_path / "cut")]
    whole = ["fit", "--config", str(world / "config.yaml"), *two, "--output", str(tmp_path / "whole")]
    if rank == 0:
        assert on_ranks(2, ddp_cases.statuses, [cut, cut, whole], cache) == [[EXIT_STATUS, 0, 0]] * 2
    else:  # the first one starts the other, as a user would have it
        process = program(*cut, "--data.init_args.num_workers=1")
        _, said = process.communicate(timeout=500)
        assert process.returncode == EXIT_STATUS, said
        assert said.count(f"interrupted by SIGUSR1: saved at step {STEPS + 4}") == 1
        assert on_ranks(2, ddp_cases.statuses, [cut, whole], cache) == [[0, 0]] * 2
    assert made(tmp_path / "cut") == made(tmp_path / "whole")
