"""Several real processes (gloo) do what one does with the same global batches, and none outlives another."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsub.runs.records import read
from tests.support import ddp_cases
from tests.support.data_makers import WORDS
from tests.support.ddp_runs import command, folder, tickets, values
from tests.support.processes import on_ranks

KINDS: dict[str, dict[str, Any]] = {
    "single": {},
    # The same sums up to the 16th digit: where a mask differs, more than rounding is the reason.
    "double": {"trainer.precision": "64-true"},
    "untrained": {"trainer.callbacks.score": "magnitude_init"},
    "taylor": {"trainer.precision": "64-true", "trainer.callbacks.score": "taylor"},
    "fisher": {
        "trainer.precision": "64-true",
        "trainer.callbacks.score": "fisher",
        "trainer.callbacks.fisher_labels": "sampled",
        "trainer.callbacks.score_examples": 27,
    },
    "mixture": {"trainer.precision": "64-true", "data.init_args.language": "en+fr"},
    "mixed": {"trainer.precision": "bf16-mixed", "trainer.accumulate_grad_batches": 2},
}
PROCESSES = (1, 2, 4)


def rows(path: Path, count: int, words: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for i in range(count):
            chosen = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, words)]
            row = {"premise": " ".join(chosen), "hypothesis": chosen[i % 4], "label": i % 3}
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data whose last batch is neither full nor evenly divisible: 58 rows are three batches of 16 and one of 10."""
    tree = tmp_path_factory.mktemp("ddp")
    rows(tree / "xnli" / "en" / "train.jsonl", 58, 5)
    rows(tree / "xnli" / "en" / "validation.jsonl", 15, 5)
    rows(tree / "xnli" / "fr" / "train.jsonl", 29, 6)
    rows(tree / "xnli" / "fr" / "validation.jsonl", 7, 6)
    return tree


@pytest.fixture(scope="module")
def runs(bert, tree) -> Path:
    """Every kind on one, two and four processes, each number of processes started once."""
    for n in PROCESSES:
        commands = [command(bert, tree, f"{kind}{n}", n, **settings) for kind, settings in KINDS.items()]
        assert on_ranks(n, ddp_cases.statuses, commands, tree / "cache") == [[0] * len(commands)] * n
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("n", PROCESSES[1:])
@pytest.mark.parametrize("kind", ["double", "untrained", "taylor", "fisher", "mixture"])
def test_where_sums_round_alike_the_tickets_are_those_of_one_process_bit_for_bit(runs, kind, n):
    one, several = (tickets(runs, f"{kind}{count}") for count in (1, n))
    assert [ticket.checksum for ticket in several] == [ticket.checksum for ticket in one]
    assert len(one) == 2
    assert values(runs, f"{kind}{n}") == values(runs, f"{kind}1")


@pytest.mark.slow
@pytest.mark.parametrize("n", PROCESSES[1:])
def test_where_they_do_not_a_weight_at_the_threshold_may_fall_on_the_other_side(runs, n):
    for one, several in zip(tickets(runs, "single1"), tickets(runs, f"single{n}"), strict=True):
        assert several.kept == one.kept
        differing = sum(int(np.bitwise_count(one.masks[name] ^ several.masks[name]).sum()) for name in one.masks)
        assert differing <= 0.005 * sum(int(np.prod(shape)) for shape in one.shapes.values())
    assert values(runs, f"single{n}") == pytest.approx(values(runs, "single1"), abs=1 / 15)


@pytest.mark.slow
def test_each_validation_example_counts_once_however_many_processes_there_are(runs):
    for kind in KINDS:
        for n in PROCESSES:
            records = read(folder(runs, f"{kind}{n}") / "results.jsonl")
            # Of a mixture the whole, and then each of its languages.
            counts = [22, 15, 7] if kind == "mixture" else [15]
            assert [(r.round, r.n) for r in records] == [(number, n) for number in range(3) for n in counts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "who"),
    [
        ([1], "Rank 1 of 3"),
        ([0], "Rank 0 of 3"),
        ([0, 1], "Ranks 1 and 2 of 3"),  # no two agree: then rank 0's mask is the one that others differ from
    ],
)
def test_ranks_that_differ_are_named_and_what_is_on_the_disk_stays_good(bert, tree, odd, who):
    name = f"odd{len(odd)}{odd[0]}"
    for status, lines in on_ranks(3, ddp_cases.spoilt, command(bert, tree, name, 3), tree / "cache", odd):
        assert status == 1
        assert len(lines) == 1
        assert who in lines[0]
    (ticket,) = tickets(tree, name)  # of the round before
    assert ticket.provenance.sparsity == 0.3
    assert [record.round for record in read(folder(tree, name) / "results.jsonl")] == [0]


@pytest.mark.slow
def test_a_rank_that_hangs_is_waited_for_no_longer_than_it_may_be(bert, tree, tmp_path):
    args = command(bert, tree, tmp_path.name, 2, rank_timeout=0.25)
    found = on_ranks(2, ddp_cases.hanging, args, tree / "cache", tmp_path / "over")
    assert [status for status, _ in found] == [1, 1]
    assert re.search(r"Rank 0 .*\(0:00:15\)", found[0][1][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "facts"),
    [(1, r"Rank 1 \(process \d+\) .*SIGKILL"), (0, "Rank 1 ")],
)
def test_a_rank_that_dies_takes_the_run_down_with_one_line(bert, tree, tmp_path, rank, facts):
    args = command(bert, tree, tmp_path.name, 2, **{"trainer.max_epochs": 100_000, "trainer.log_every_n_steps": 1})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tree / "cache")}
    with (tmp_path / "said").open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "lnsub", *args], stderr=file, env=environment)
    pids = [process.pid]
    try:
        metrics = folder(tree, tmp_path.name) / "metrics.csv"
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < 3:
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        pids += map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        os.kill(pids[rank], signal.SIGKILL)
        assert process.wait() == (1 if rank else -signal.SIGKILL)
        while running(pids[1]):
            time.sleep(0.05)
    finally:
        for pid in filter(running, pids):
            os.kill(pid, signal.SIGKILL)
    text = (tmp_path / "said").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("lnsub: error: "))
    assert re.search(facts, line)
    assert "Traceback" not in text


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False
