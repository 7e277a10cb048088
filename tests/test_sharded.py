"""A model shared out among real processes (gloo): the same masks as in one process, bit for bit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lnsub.results import Record, read
from lnsub.tickets import Ticket
from tests import sharded_cases
from tests.data_makers import WORDS, bert  # noqa: F401 (fixture)
from tests.processes import on_ranks

pytestmark = pytest.mark.slow

SETTINGS = {
    "data": "lnsub.tasks.XNLI",
    "data.init_args.language": "en",
    "data.init_args.max_length": 32,
    "model.learning_rate": 5e-3,
    "trainer.max_epochs": 2,
    "trainer.gradient_clip_val": 1.0,
    "trainer.accelerator": "cpu",
    "trainer.callbacks": "lnsub.imp.IMPCallback",
    "trainer.callbacks.sparsities": "[0.3,0.6]",
    "trainer.enable_progress_bar": "false",
    "checkpoint_every_n_steps": 3,
}


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


KINDS: dict[str, dict[str, Any]] = {
    "magnitude": {"callbacks.rewind": "step", "callbacks.rewind_step": 2},
    "bf16": {"precision": "bf16-mixed"},
    "taylor": {"callbacks.score": "taylor", "callbacks.score_batches": 2},
    "magnitude_init": {"callbacks.score": "magnitude_init", "callbacks.scope": "matrix"},
}
"""Settings of the trainer."""


class Runs:
    """Runs of `lnsub fit`, each kind in a folder of its own, on one or several ranks."""

    def __init__(self, base: str, data: Path) -> None:
        self.base, self.data, self.tree = base, data, data.parent

    def fit(self, name: str, ranks: int, kinds: list[str], *, stop_at: int | None = None, batch: int = 16) -> None:
        commands = [self._command(self.tree / name / kind, ranks, batch, KINDS[kind]) for kind in kinds]
        on_ranks(ranks, sharded_cases.run_commands, commands, self.tree / "cache", stop_at)

    def _command(self, output: Path, ranks: int, batch: int, trainer: dict[str, Any]) -> list[str]:
        values = {
            **SETTINGS,
            **{f"trainer.{key}": value for key, value in trainer.items()},
            "model.base_model": self.base,
            "data.init_args.dataset": self.data,
            "data.init_args.batch_size": batch,
            "trainer.devices": ranks,
            "trainer.strategy": "sharded" if ranks > 1 else "auto",
            "output": output,
        }
        return ["fit", *(f"--{key}={value}" for key, value in values.items())]

    def folder(self, name: str, kind: str) -> Path:
        return self.tree / name / kind / "xnli" / "en" / "seed57"

    def results(self, name: str, kind: str) -> list[Record]:
        return read(self.folder(name, kind) / "results.jsonl")

    def tickets(self, name: str, kind: str) -> list[Ticket]:
        found = [Ticket.load(path) for path in sorted((self.folder(name, kind) / "tickets").iterdir())]
        assert [ticket.provenance.sparsity for ticket in found] == [0.3, 0.6]
        return found


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_find_together_what_one_process_finds(count):
    on_ranks(count, sharded_cases.cases, count)


def test_whole_runs_on_two_ranks_and_on_one(bert, data):  # noqa: F811
    runs = Runs(bert, data)
    runs.fit("one", 1, list(KINDS))
    runs.fit("two", 2, list(KINDS), batch=8)
    for kind in KINDS:
        one, two = (runs.results(name, kind) for name in ("one", "two"))
        assert [(r.round, r.n) for r in one] == [(r.round, r.n) for r in two] == [(0, 15), (1, 15), (2, 15)]
        assert [r.value for r in two] == pytest.approx([r.value for r in one], abs=2 / 15)
        for a, b in zip(runs.tickets("one", kind), runs.tickets("two", kind), strict=True):
            if kind == "magnitude_init":  # of theta_0, which is the same on any number of ranks
                created = {"created": a.provenance.created}
                again = dataclasses.replace(b, provenance=dataclasses.replace(b.provenance, **created))
                assert again.save(data / "again").read_bytes() == a.path.read_bytes()
            # Sums over two halves of a batch round differently; a weight at the threshold may fall on the other side.
            assert a.kept == b.kept
            differing = sum(int((a.masks[name] != b.masks[name]).sum()) for name in a.masks)
            share = 0.1 if kind == "bf16" else 0.02  # on several ranks norms compute in bfloat16 too
            assert differing <= share * sum(mask.size for mask in a.masks.values())

    # Broken off in the middle of round 1, and as round 2 begins, which then goes on in one process: the same tickets.
    for stop, ranks in ((10, 2), (16, 2), (None, 1)):
        runs.fit("broken", ranks, ["magnitude"], stop_at=stop, batch=8)
    checksums = [[ticket.checksum for ticket in runs.tickets(name, "magnitude")] for name in ("two", "broken")]
    assert checksums[0] == checksums[1]
    undisturbed, broken = ([(r.round, r.value) for r in runs.results(name, "magnitude")] for name in ("two", "broken"))
    assert broken[:2] == undisturbed[:2]
    assert [round_ for round_, _ in broken] == [0, 1, 2]
