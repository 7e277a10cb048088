"""A model shared out among real processes (gloo): the same masks as in one process, bit for bit."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsub.runs.folder import RunFolder
from lnsub.tickets.ticket import Ticket
from tests.support import sharded_cases
from tests.support.data_makers import WORDS
from tests.support.processes import on_ranks

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """XNLI pairs of one length, so that a global batch is the same however many ranks share it."""
    for split, rows in (("train", 64), ("validation", 15)):
        path = tmp_path / "xnli" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for i in range(rows):
                words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 5)]
                row = {"premise": " ".join(words), "hypothesis": words[i % 4], "label": i % 3}
                file.write(json.dumps(row) + "\n")
    return tmp_path / "xnli"


def run(count: int, base: str, data: Path, name: str, kinds: list[str], stop_at: int | None = None) -> Path:
    output = data.parent / name
    on_ranks(count, sharded_cases.runs, count, base, data, output, kinds, stop_at)
    return output


def results(folder: Path) -> list[tuple[Any, ...]]:
    return [(r.round, r.n, r.value, r.ticket) for r in RunFolder(folder).records("imp")]


def tickets(folder: Path) -> list[Ticket]:
    return [Ticket.load(RunFolder(folder).ticket(level)) for level in (0.3, 0.6)]


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_find_together_what_one_process_finds(count):
    on_ranks(count, sharded_cases.cases, count)


def test_whole_runs_on_two_ranks_are_those_of_one_process(bert, data):
    one, two = (run(count, bert, data, f"on{count}", list(sharded_cases.KINDS)) for count in (1, 2))
    for kind in sharded_cases.KINDS:
        alone, together = results(one / kind), results(two / kind)
        assert [row[:2] for row in alone] == [row[:2] for row in together] == [(0, 15), (1, 15), (2, 15)]
        assert [row[2] for row in together] == pytest.approx([row[2] for row in alone], abs=2 / 15)
        for a, b in zip(tickets(one / kind), tickets(two / kind), strict=True):
            assert a.kept == b.kept
            # Sums over two halves of a batch round differently; a weight at the threshold may fall on the other side.
            # And on several ranks norms compute in bfloat16 too.
            most = {"magnitude_init": 0, "bf16": 0.05}.get(kind, 0.01)
            differing = sum(int(np.bitwise_count(a.masks[name] ^ b.masks[name]).sum()) for name in a.masks)
            assert differing <= most * sum(math.prod(shape) for shape in a.shapes.values())
    # What is pruned by theta_0 is the same whatever the training: here the files are equal, but for the time.
    a, b = tickets(one / "magnitude_init")[1], tickets(two / "magnitude_init")[1]
    again = dataclasses.replace(b, provenance=dataclasses.replace(b.provenance, created=a.provenance.created))
    assert again.save(data / "again").read_bytes() == a.path.read_bytes()


def test_runs_that_are_broken_off_end_with_the_same_tickets(bert, data):
    """In the middle of round 1, and before the first step of round 2, which then goes on in one process."""
    undisturbed = run(2, bert, data, "undisturbed", ["magnitude"]) / "magnitude"
    for stop_at, count in ((10, 2), (16, 2), (None, 1)):
        broken = run(count, bert, data, "broken", ["magnitude"], stop_at) / "magnitude"
    assert [t.checksum for t in tickets(broken)] == [t.checksum for t in tickets(undisturbed)]
    assert results(broken)[:2] == results(undisturbed)[:2]
    assert results(broken)[2][:2] == (2, 15)


def test_the_command_does_it_and_refuses_what_masks_cannot_follow(bert, data):
    settings = {
        "data": "lnsub.XNLI",
        "data.init_args.language": "en",
        "data.init_args.max_length": 32,
        "data.init_args.dataset": data,
        "data.init_args.batch_size": 8,
        "model.base_model": bert,
        "trainer.max_steps": 3,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.callbacks": "lnsub.IMPCallback",
        "trainer.callbacks.sparsities": "[0.3]",
        "trainer.enable_progress_bar": "false",
        "output": data.parent / "runs",
    }
    args = ["fit", *(f"--{key}={value}" for key, value in settings.items())]
    mesh = ["data_parallel_size=2", "tensor_parallel_size=1"]
    plain = ["--trainer.strategy=ModelParallelStrategy", *(f"--trainer.strategy.{size}" for size in mesh)]
    commands = [[*args, "--trainer.strategy=sharded"], [*args, *plain, "--seed_everything=1"]]
    commands += [[*args, "--trainer.strategy=sharded", "--trainer.precision=64-true", "--seed_everything=2"]]
    assert on_ranks(2, sharded_cases.commands, commands, data) == [[0, 2, 2]] * 2
    assert Ticket.load(data.parent / "runs" / "xnli" / "en" / "seed57" / "tickets" / "s0.30.safetensors").kept
