"""``torch.compile`` on the CPU: a compiled against an uncompiled step, and the number of compilations in three rounds.

Steps are timed on a model of mBERT's width with 2 of its 12 layers, on batches of 32 rows with the lengths of French
XNLI pairs, padded to multiples of 16. The rounds are those of IMP on the embedded model and data.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import datasets
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import BertConfig

from benchmarks.gpu.device import Device
from benchmarks.gpu.workload import Settings, make_batches
from benchmarks.harness import Case, Claim, Row, Timing, interleave
from lnsub.models.compiling import compile_for_training
from lnsub.tasks.wikiann import WikiANN
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule

EAGER, COMPILED = "step, not compiled", "step, compiled"


def run(quick: bool, repeats: int) -> list[Row]:
    """Times steps, and counts compilations over three rounds.

    Args:
        quick: toy sizes, and torch's no-op compiler.
        repeats: turns; each is a pass over the same batches.
    """
    return [*_steps(quick, repeats), *_rounds(quick)]


def _steps(quick: bool, repeats: int) -> list[Row]:
    torch._dynamo.reset()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2} if quick else {}
    with tempfile.TemporaryDirectory() as folder:
        BertConfig(vocab_size=300, num_hidden_layers=2, **sizes).save_pretrained(folder)
        settings = Settings(Device("cpu"), folder, quick, repeats)
        batches = make_batches(settings, settings.rows[0], 16)[:3]
        modules = {name: SubnetModule(settings.task, folder, init="random").train() for name in (EAGER, COMPILED)}
    compile_for_training(modules[COMPILED].model, "default", "eager" if quick else "inductor")
    start = time.perf_counter()
    _pass(modules[COMPILED], batches)
    first = time.perf_counter() - start
    timings = interleave((Case(name, partial(_pass, module, batches)) for name, module in modules.items()), repeats)
    rows = []
    for name, timing in timings.items():
        step = Timing(tuple(seconds / len(batches) for seconds in timing.seconds))
        values = {"steps/s": 1 / step.median}
        if name == COMPILED:
            values["s to compile"] = first - timing.median
        ratio = None if name == EAGER else timing.ratio(timings[EAGER])
        rows.append(Row(name, step, "" if ratio is None else EAGER, ratio, values))
    return rows


def _pass(module: SubnetModule, batches: Sequence[dict[str, Tensor]]) -> None:
    """Forward and backward over all batches."""
    for batch in batches:
        module.zero_grad()
        module.task.loss(module(batch), batch["labels"]).backward()


class _Counts(Callback):
    """Counts the graphs compiled by the end of each round."""

    def __init__(self) -> None:
        self.graphs: list[int] = []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.graphs.append(counters["stats"]["unique_graphs"])


def _rounds(quick: bool) -> list[Row]:
    torch._dynamo.reset()
    counters.clear()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    demo, counts = Path(str(files("lnsub") / "demo")), _Counts()
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        data = WikiANN(
            language="fr",
            tokenizer=str(demo / "model"),
            dataset=str(demo / "data"),
            max_train_examples=100 if quick else 400,
            max_eval_examples=50,
        )
        module = SubnetModule(data.task, data.tokenizer, compile="default")
        if quick:
            compile_for_training(module.model, "default", "eager")
        trainer = Trainer(
            default_root_dir=Path(folder) / "run",
            accelerator="cpu",
            max_epochs=2,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            callbacks=[IMPCallback(sparsities=[0.3, 0.6]), counts],
        )
        fit(trainer, module, data)
    values = {f"after round {number}": count for number, count in enumerate(counts.graphs)}
    same = len(set(counts.graphs)) == 1
    return [
        Row("graphs compiled in three rounds", values=values, claims=[Claim("no more after the first round", same)])
    ]
