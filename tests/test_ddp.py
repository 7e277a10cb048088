"""Two real processes (gloo): the same mask on both, one set of files, and masks that are never broadcast."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lnsub.results import read
from lnsub.tickets import Ticket
from tests.data_makers import WORDS, bert  # noqa: F401 (fixture)

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
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, rows in (("train", 64), ("validation", 15)):
        path = tmp_path / "xnli" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for i in range(rows):
                words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 5)]  # of one length: batches split evenly
                row = {"premise": " ".join(words), "hypothesis": words[i % 4], "label": i % 3}
                file.write(json.dumps(row) + "\n")
    return tmp_path / "xnli"


def fit(base: str, data: Path, output: Path, processes: int) -> Path:
    values = {
        **SETTINGS,
        "model.base_model": base,
        "data.init_args.dataset": data,
        "data.init_args.batch_size": 16 // processes,
        "trainer.devices": processes,
        "trainer.strategy": "ddp" if processes > 1 else "auto",
        "output": output,
    }
    command = [sys.executable, "-m", "lnsub", "fit", *(f"--{key}={value}" for key, value in values.items())]
    cache = {"HF_DATASETS_CACHE": str(data.parent / "cache"), "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **cache}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return output / "xnli" / "en" / "seed57"


@pytest.mark.slow
def test_two_processes_agree_with_one_on_the_same_global_batches(bert, data, tmp_path):  # noqa: F811
    one, two = (fit(bert, data, tmp_path / f"runs{n}", n) for n in (1, 2))
    for folder in (one, two):
        records = read(folder / "results.jsonl")
        assert [(r.round, r.n) for r in records] == [(0, 15), (1, 15), (2, 15)]  # each example once, recorded once
    for level in ("0.30", "0.60"):
        a, b = (Ticket.load(folder / "tickets" / f"s{level}.safetensors") for folder in (one, two))
        assert a.kept == b.kept
        differing = sum(int((a.masks[name] != b.masks[name]).sum()) for name in a.masks)
        # Sums over two halves of a batch round differently; a weight at the threshold may fall on the other side.
        assert differing <= 0.02 * sum(mask.size for mask in a.masks.values())
    values = [[r.value for r in read(folder / "results.jsonl")] for folder in (one, two)]
    assert values[1] == pytest.approx(values[0], abs=2 / 15)
