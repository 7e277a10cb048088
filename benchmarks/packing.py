"""Passes over batches without padding, against padded ones, on the CPU.

The model has mBERT's width (768, 12 heads, 3,072 inside), 2 of its 12 layers and a small vocabulary. Rows have the
lengths of French XNLI pairs and WikiANN sentences under XLM-R's tokenizer: log-normal with the mean and standard
deviation of their logarithms, measured on 8,000 rows each. Grouped batches are spread evenly over one window of 100;
random ones have the same number of tokens, to about 0.1 %.
"""

import tempfile
from collections.abc import Iterable
from functools import partial

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig

from benchmarks.harness import Case, Row, at_most, interleave
from lnsub.data.batching import BatchedRows, BatchRows, Collator
from lnsub.tasks.wikiann import WikiANNTask
from lnsub.tasks.xnli import XNLITask
from lnsub.training.module import SubnetModule

ROWS = 32
"""Rows in a batch: the recipe of Foroutan et al. (2022)."""
WORDS = 1000

Batches = list[dict[str, Tensor]]


def run(quick: bool, repeats: int) -> list[Row]:
    """Times the forward and backward passes of one model over equally many tokens, batched in different ways."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2} if quick else {}
    config = BertConfig(vocab_size=WORDS, num_hidden_layers=2, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return [
            *_rows("XNLI", _modules(XNLITask(""), folder), _lengths(3.962, 0.470), 2 if quick else 4, repeats),
            *_rows("WikiANN", _modules(WikiANNTask(""), folder), _lengths(2.607, 0.412), 2 if quick else 8, repeats),
        ]


def _lengths(mean: float, deviation: float) -> NDArray[np.int64]:
    """Tokens in each of a window's rows: log-normal, from 5 to 128."""
    drawn = np.random.default_rng(0).lognormal(mean, deviation, 100 * ROWS)
    return np.clip(drawn, 5, 128).astype(np.int64)


def _modules(task: XNLITask | WikiANNTask, folder: str) -> dict[str, SubnetModule]:
    """The padded and the packed module, with the same weights."""
    return {
        attention: SubnetModule(task, folder, init="random", attention=attention) for attention in ("sdpa", "packed")
    }


def _rows(
    name: str, modules: dict[str, SubnetModule], lengths: NDArray[np.int64], count: int, repeats: int
) -> list[Row]:
    """One task's rows."""
    padded, packed = modules["sdpa"], modules["packed"]
    grouped, random = _choose(lengths, count)
    made = partial(_batches, packed.task.name)
    ways = {
        f"{name}: padded to 128": (padded, made(random, 128)),
        f"{name}: padded, random batches": (padded, made(random)),
        (reference := f"{name}: padded, grouped by length"): (padded, made(grouped)),
        f"{name}: packed, grouped by length": (packed, made(grouped)),
        f"{name}: packed, random batches": (packed, made(random)),
    }
    difference = max(_loss_difference(padded, packed, batch) for batch in [*made(random), *made(grouped)])
    timings = interleave((Case(way, partial(_passes, *what)) for way, what in ways.items()), repeats)
    rows = []
    for way, (module, batches) in ways.items():
        tokens = sum(len(batch["slots"]) for batch in batches)
        computed = tokens if module is packed else sum(batch["input_ids"].numel() for batch in batches)
        values: dict[str, float | int | str] = {
            "tokens/s": tokens / timings[way].median,
            "% padding": 100 * (1 - tokens / computed),
        }
        claims = []
        if module is packed:
            values["largest difference of a loss"] = difference
            claims.append(at_most(difference, 1e-5, "apart in loss"))
        ratio = None if way == reference else timings[way].ratio(timings[reference])
        rows.append(Row(way, timings[way], "" if ratio is None else "grouped", ratio, values, claims))
    return rows


def _choose(lengths: NDArray[np.int64], count: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The lengths of ``count`` length-grouped batches, spread evenly over their window, and of as many random ones.

    Of many draws of random batches, the one closest in number of tokens is taken.
    """
    window = -np.sort(-lengths).reshape(-1, ROWS)
    grouped = window[np.linspace(0, len(window) - 1, 2 * count + 1).astype(int)[1::2]]
    rng = np.random.default_rng(1)
    draws = [rng.permutation(lengths)[: grouped.size].reshape(grouped.shape) for _ in range(200)]
    random = min(draws, key=lambda drawn: abs(int(drawn.sum() - grouped.sum())))
    return list(grouped), list(-np.sort(-random))


def _batches(task: str, batches: list[NDArray[np.int64]], multiple: int = 1) -> Batches:
    """Makes the tensors of batches of rows of these lengths, as the data modules make them."""
    rng = np.random.default_rng(2)
    lengths = np.concatenate(batches)
    labels = rng.integers(0, 3, len(lengths)) if task == "xnli" else [rng.integers(0, 7, n) for n in lengths]
    ids = [rng.integers(5, WORDS, n) for n in lengths]
    table = datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, "index": np.arange(len(lengths))})
    read = BatchedRows(table, Collator(pad_id=0, multiple=multiple))
    return [read[BatchRows(0, rows)] for rows in np.split(np.arange(len(lengths)), len(batches))]


def _passes(module: SubnetModule, batches: Iterable[dict[str, Tensor]]) -> None:
    """Forward and backward over all batches, with dropout, in training mode."""
    module.train()
    for batch in batches:
        module.zero_grad()
        module.task.loss(module(batch), batch["labels"]).backward()


@torch.inference_mode()
def _loss_difference(padded: SubnetModule, packed: SubnetModule, batch: dict[str, Tensor]) -> float:
    """The difference of the two models' losses of a batch, without dropout, in nats."""
    losses = [module.eval().task.loss(module(batch), batch["labels"]) for module in (padded, packed)]
    return abs(float(losses[0] - losses[1]))
