"""A tiny study: a model, data of two tasks, configurations, a study file, and what a finished study has left."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lnsub.runs.records import read_tree
from lnsub.tickets.file_format import read_header
from tests.support.xnli_world import WORDS, make_xnli_world

ROOT = Path(__file__).parents[2]
LANGUAGES = ("aa", "bb", "cc")
"""Those that there is data in."""
SPARSITIES = [0.3, 0.6]


def make_study_world(root: Path, *, rows: int = 32, epochs: int = 1) -> Path:
    """Writes a model, data and ``xnli.yaml`` and ``wikiann.yaml``, configurations of two tasks, below ``root``.

    Args:
        root: the folder.
        rows: training rows of each language; batches have 8.
        epochs: of a round.

    Returns:
        A study file with XNLI in two languages and a transfer, for :func:`write_study` to write others beside.
    """
    config = make_xnli_world(root, LANGUAGES, {"train": rows, "validation": 8}, seed=5, batch_size=8)
    config["trainer"] |= {"max_epochs": epochs}
    config["checkpoint_every_n_steps"] = 1
    (root / "xnli.yaml").write_text(yaml.safe_dump(config))
    for language in LANGUAGES:
        for split, count in (("train", 16), ("validation", 8), ("test", 8)):
            path = root / "ner" / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            row = {"tokens": WORDS[:3], "ner_tags": ["O", "B-LOC", "O"]}
            path.write_text(f"{json.dumps(row)}\n" * count)
    config["data"] = {
        "class_path": "lnsub.WikiANN",
        "init_args": {"language": "aa", "dataset": str(root / "ner"), "batch_size": 8, "max_length": 16},
    }
    (root / "wikiann.yaml").write_text(yaml.safe_dump(config))
    return write_study(root)


def study_of(root: Path, **changes: Any) -> dict[str, Any]:
    """The settings of a study file: XNLI in two languages and a transfer, with changes by name."""
    return {
        "name": "tiny",
        "output": str(root / "out"),
        "seeds": [5],
        "tasks": {"xnli": {"config": "xnli.yaml", "languages": ["aa", "bb"]}},
        "transfer": {"sparsities": [0.6], "baselines": ["dense", "random"]},
        **changes,
    }


def write_study(root: Path, name: str = "study.yaml", **changes: Any) -> Path:
    """Writes a study file; see :func:`study_of`."""
    path = root / name
    path.write_text(yaml.safe_dump(study_of(root, **changes)))
    return path


def environment(root: Path) -> dict[str, str]:
    """The environment of a study's processes: one core, no network, a cache of tokenised data of their own."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(root / "cache"),
        "WANDB_MODE": "offline",
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
    }


def start(root: Path, *args: str) -> "subprocess.Popen[str]":
    """Starts `lnsub study` with arguments, its output to be read from the process."""
    return subprocess.Popen(
        [sys.executable, "-m", "lnsub", "study", *args],
        cwd=root,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ran(root: Path, *args: str) -> tuple[int, str]:
    """Runs `lnsub study` to its end; returns its exit status and all that it printed."""
    with start(root, *args) as process:
        said, _ = process.communicate()
    return process.returncode, said


def left(output: Path) -> dict[str, Any]:
    """The tickets and records that a study has left: what must not depend on how often it was interrupted."""
    return {
        "tickets": {
            str(path.relative_to(output)): read_header(path).checksum for path in sorted(output.rglob("*.safetensors"))
        },
        "records": sorted(str(replace(record, wall_s=0.0, time="", lnsub_version="")) for record in read_tree(output)),
    }


def attempts(output: Path) -> Mapping[str, list[int]]:
    """The exit statuses of each job's attempts, in order."""
    return {
        path.parent.name: [json.loads(line)["status"] for line in path.read_text().splitlines()]
        for path in sorted((output / "study" / "jobs").glob("*/attempts.jsonl"))
    }
