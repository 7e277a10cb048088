"""CSV and W&B of a whole run: added to after an interruption, offline without a key, read back from the files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.training.csv_logger import RunCSVLogger
from tests.support.data_makers import WORDS
from tests.support.wandb_files import inspect


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_of_an_interrupted_run_is_added_to(tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = RunCSVLogger(folder)
    first.log_metrics({"train_loss": 1.0}, step=1)
    first.save()
    again = RunCSVLogger(folder)
    again.log_metrics({"train_loss": 0.5, "imp/val_f1": 0.7}, step=2)
    again.save()
    rows = rows_of(folder.path / "metrics.csv")
    found = [(row["step"], row["train_loss"], row["imp/val_f1"]) for row in rows]
    assert found == [("1", "1.0", ""), ("2", "0.5", "0.7")]


def fit(base: str, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    for split in ("train", "validation"):
        path = folder / "ner" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"tokens": [WORDS[i % 9], "Paris"], "ner_tags": ["O", "B-LOC"]} for i in range(16)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "data": "lnsub.WikiANN",
        "data.init_args.language": "en",
        "data.init_args.dataset": folder / "ner",
        "data.init_args.batch_size": 4,
        "data.init_args.max_length": 32,
        "model.base_model": base,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.callbacks": "lnsub.IMPCallback",
        "trainer.callbacks.sparsities": "[0.5]",
        "wandb.project": "study",
        "wandb.tags": "[pilot]",
        "output": folder / "runs",
        **settings,
    }
    places = {name: str(folder / "wandb-home") for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")}
    # No key anywhere: neither in the environment nor in a home directory.
    env = {k: v for k, v in os.environ.items() if k not in {"WANDB_API_KEY", "WANDB_MODE"}} | places
    env |= {"HOME": str(folder), "NETRC": str(folder / "none"), "HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lnsub", "fit", *(f"--{key}={value}" for key, value in values.items())]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False, timeout=300
    )


@pytest.mark.slow
def test_without_a_key_wandb_is_offline_says_so_once_and_has_every_round(bert, tmp_path):
    done = fit(bert, tmp_path)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("No W&B API key: logging offline") == 1
    # A log file gets a line an epoch, with the round and the time left.
    lines = [line for line in done.stderr.splitlines() if line.startswith("round ")]
    assert [line.split(" · ")[:3] for line in lines] == [
        [f"round {r}/1", f"sparsity {s}", f"epoch {e}/2"] for r, s in ((0, "0.00"), (1, "0.50")) for e in (1, 2)
    ]
    assert all("left" in line and "val_f1" in line for line in lines)

    folder = RunFolder(tmp_path / "runs" / "wikiann" / "en" / "seed57")
    run = inspect(next((folder.path / "wandb").glob("offline-run-*")))
    assert (run.project, run.group, run.name) == ("study", "wikiann", "wikiann/en/seed57")
    assert set(run.tags) == {"wikiann", "en", "seed57", "pilot"}
    assert run.id == (folder.path / "wandb" / "run-id").read_text()
    assert run.config["model"]["base_model"] == bert
    rounds = [row for row in run.rows if "imp/sparsity" in row]
    recorded = {r.sparsity: r.value for r in read(folder.results) if r.metric == "f1"}
    assert {row["imp/sparsity"]: row["imp/val_f1"] for row in rounds} == recorded
    steps = [row["trainer/global_step"] for row in run.rows]
    assert steps == sorted(steps)
    assert max(steps) == 16  # two rounds of two epochs of four steps: one line that only grows
