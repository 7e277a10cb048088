"""Runs of IMP on a tiny model that are interrupted at chosen places and resumed, and their comparable results."""

import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from lnsub.runs.folder import RunFolder
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.xnli import XNLI
from lnsub.tickets.ticket import Ticket
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from tests.support.data_makers import WORDS
from tests.support.models import save_checkpoint

LEVELS = [0.3, 0.6]
STEPS = 2 * 5  # a round: two epochs of five batches


class Unplugged(Exception):  # noqa: N818 (not an error)
    """Simulates the end of the process."""


@dataclass
class Plug(Callback):
    """Raises :class:`Unplugged` in a hook at a step, after skipping ``skip`` calls."""

    hook: str
    step: int
    skip: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") and name == object.__getattribute__(self, "hook"):
            return self._pull
        return object.__getattribute__(self, name)

    def _pull(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.skip == 0:
                raise Unplugged
            self.skip -= 1


class Watch(Callback):
    """Records the global step before each batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step)


@dataclass(frozen=True)
class Place:
    """The model and the data that all runs share."""

    base: str
    data: str


def make_place(folder: Path) -> Place:
    """Writes the model and the data."""
    for language, split, rows in (
        ("en", "train", 40),
        ("en", "validation", 12),
        ("fr", "train", 16),
        ("fr", "validation", 9),
    ):
        path = folder / "xnli" / language / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for i in range(rows):
            words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 5)]
            lines.append(json.dumps({"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}) + "\n")
        path.write_text("".join(lines))
    base = save_checkpoint(folder / "base", WORDS, dropout=0.2, spare=20)
    return Place(str(base), str(folder / "xnli"))


def run(
    place: Place,
    output: Path,
    callbacks: list[Callback] | None = None,
    *,
    imp: dict[str, Any] | None,
    every: int | None = 1,
    minutes: float | None = None,
    workers: int = 0,
    data: dict[str, Any] | None = None,
    task: type[LanguageDataModule] = XNLI,
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Starts or resumes a run in ``output`` in this process; returns its :func:`outcome`."""
    arguments = {"language": "en", "batch_size": 8, "max_length": 32, "num_workers": workers, **(data or {})}
    datamodule = task(tokenizer=place.base, dataset=place.data, seed=3, **arguments)
    module = SubnetModule(datamodule.task, place.base, learning_rate=5e-3, seed=3, warmup=0.2, **(model or {}))
    levels = [] if imp is None else [IMPCallback(**{"sparsities": LEVELS, "keep_checkpoint": True, **imp})]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        defaults = {
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "max_epochs": 2,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 2,
        }
        trainer = Trainer(
            default_root_dir=output,
            callbacks=[*levels, *(callbacks or [])],
            accelerator="cpu",
            logger=RunCSVLogger(RunFolder(output)),
            num_sanity_val_steps=0,
            **{**defaults, **settings},
        )
        fit(trainer, module, datamodule, checkpoint_every_minutes=minutes, checkpoint_every_n_steps=every)
    return outcome(output)


def outcome(output: Path) -> dict[str, Any]:
    """Tickets, results, weights and logged metrics of a run, for exact comparison."""
    folder = RunFolder(output)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    return {
        "tickets": {path.name: Ticket.load(path).checksum for path in sorted((output / "tickets").glob("*"))},
        "results": [
            (r.kind, r.round, r.split, r.metric, r.value, r.n, r.ticket)
            for kind in ("imp", "dense", "part")
            for r in folder.records(kind)
        ],
        "weights": {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in state.items()},
        "metrics": (output / "metrics.csv").read_bytes(),
        "files": sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()),
    }


IMP: dict[str, Any] = {"imp": {}}


def cut(place: Place, output: Path) -> RunFolder:
    """A run that was interrupted in round 1, with a checkpoint at each step."""
    with pytest.raises(Unplugged):
        run(place, output, [Plug("on_train_batch_start", STEPS + 4)], **IMP)
    return RunFolder(output)


def command(place: Place, output: Path) -> list[str]:
    """A run through the command line."""
    settings = {
        "data": "lnsub.XNLI",
        "data.init_args.language": "en",
        "data.init_args.dataset": place.data,
        "data.init_args.max_length": 32,
        "model.base_model": place.base,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.callbacks": "lnsub.IMPCallback",
        "trainer.callbacks.sparsities": "[0.3,0.6]",
        "output": output,
    }
    return [sys.executable, "-m", "lnsub", "fit", *(f"--{key}={value}" for key, value in settings.items())]


def environment(place: Place) -> dict[str, str]:
    """The environment of a run in a process of its own."""
    return {**os.environ, "HF_DATASETS_CACHE": str(Path(place.data).parent / "cache"), "OMP_NUM_THREADS": "1"}
