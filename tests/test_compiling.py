"""torch.compile: one compilation for all batches of all rounds, the same losses, and refusals where it cannot work."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch._dynamo.testing import CompileCounterWithBackend

from lnsub.compiling import check_can_compile, compile_for_training
from lnsub.errors import UserError
from lnsub.fit import fit
from lnsub.imp import IMPCallback
from lnsub.module import SubnetModule
from lnsub.runs import RunFolder
from lnsub.tasks import XNLI, LanguageDataModule, WikiANN, WikipediaMLM
from lnsub.tasks.wikiann import TAGS
from lnsub.tickets import Ticket
from tests.data_makers import WORDS, bert, cache, mt5, write_rows  # noqa: F401 (fixtures)

ROWS = 26  # batches of 8, 8, 8 and 2


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Each test counts from zero, and leaves torch's settings as they were."""
    torch._dynamo.reset()
    with torch.fx.experimental._config.patch(use_duck_shape=True):
        yield
    torch._dynamo.reset()


class Watch(Callback):
    """Keeps every loss, and the number of compilations at the end of each round."""

    def __init__(self, counter: CompileCounterWithBackend | None = None, stop_at: int | None = None) -> None:
        self.counter = counter
        self.stop_at = stop_at
        self.losses: list[float] = []
        self.compilations: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: SubnetModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.stop_at:
            raise KeyError("pulled the plug")

    def on_train_batch_end(self, trainer: Trainer, pl_module: SubnetModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: SubnetModule) -> None:
        if self.counter is not None:
            self.compilations.append(self.counter.frame_count)


def sentence(i: int) -> list[str]:
    """Between three and eleven words."""
    return [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 9)]


def make_data(task: str, base: str, folder: Path) -> LanguageDataModule:
    """A small data set of sentences of many lengths."""
    sentences = [sentence(i) for i in range(ROWS)]
    columns: dict[str, list[Any]]
    if task == "xnli":
        columns = {"premise": [" ".join(s) for s in sentences], "hypothesis": [s[-1] for s in sentences]}
        columns["label"] = [i % 3 for i in range(ROWS)]
    elif task == "wikiann":
        columns = {"tokens": sentences, "ner_tags": [[(i + k) % len(TAGS) for k in range(len(s))] for i, s in enumerate(sentences)]}
    else:
        columns = {"text": [" ".join(s) for s in sentences]}
    for split in ("train", "validation"):
        write_rows(folder / task / "en" / f"{split}.jsonl", columns)
    classes = {"xnli": XNLI, "wikiann": WikiANN, "mlm": WikipediaMLM}
    settings = {"max_train_examples": 8 * ROWS} if task == "mlm" else {}
    return classes[task](
        language="en", tokenizer=base, dataset=str(folder / task), batch_size=8, max_length=32, seed=3, **settings
    )


def run(
    data: LanguageDataModule,
    output: Path,
    watch: Watch,
    compile: str | None = "default",  # noqa: A002
    **settings: Any,
) -> SubnetModule:
    """Three rounds of IMP; with a counter, under its backend."""
    module = SubnetModule(data.task, data.tokenizer, learning_rate=5e-3, seed=3, compile=compile)
    if watch.counter is not None:
        compile_for_training(module.model, "default", watch.counter)
    trainer = Trainer(
        default_root_dir=output,
        callbacks=[IMPCallback(sparsities=[0.3, 0.6]), watch],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 2, "gradient_clip_val": 1.0, **settings},
    )
    fit(trainer, module, data)
    return module


@pytest.mark.parametrize(
    ("task", "base", "precision"),
    [
        ("xnli", "bert", "32-true"),
        ("xnli", "bert", "bf16-mixed"),
        ("xnli", "mt5", "32-true"),
        ("wikiann", "bert", "32-true"),
        ("mlm", "bert", "32-true"),
    ],
)
def test_three_rounds_compile_once(task, base, precision, request, tmp_path, cache):  # noqa: F811
    data = make_data(task, request.getfixturevalue(base), tmp_path)
    watch = Watch(CompileCounterWithBackend("eager"))
    run(data, tmp_path / "run", watch, precision=precision)
    assert watch.compilations == [1, 1, 1]
