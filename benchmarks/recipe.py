"""Fine-tuning a sub-network on real data, in examples a second: the authors' recipe, transformers' Trainer, lnsub."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.utils import is_accelerate_available

from benchmarks import recipes
from benchmarks.harness import MB, Case, Row, Timing, at_least, at_most, interleave
from benchmarks.recipes import Spec
from benchmarks.turns import Loop, Steps
from lnsub.data.batching import LengthGroupedBatches

AUTHORS = "the authors' recipe: padded to 128, fp32"
LNSUB = "lnsub: bf16"

DEMO = Path(recipes.__file__).parents[1] / "lnsub" / "demo"


@dataclass(frozen=True)
class Way:
    """One of the alternatives.

    Attributes:
        name: its name in the table.
        train: the training loop.
        args: its arguments before the :class:`Steps`.
        grouped: whether its batches are grouped by length; None: every row is padded to the maximum length.
    """

    name: str
    train: Callable[..., PreTrainedModel]
    args: tuple[Any, ...]
    grouped: bool | None


ALL_WAYS = (
    Way(AUTHORS, recipes.authors, (), None),
    Way("transformers' Trainer: dynamic padding, fp32", recipes.transformers_trainer, (False,), False),
    Way("transformers' Trainer: dynamic padding, bf16", recipes.transformers_trainer, (True,), False),
    Way("lnsub: fp32", recipes.lnsub, ("32-true",), True),
    Way(LNSUB, recipes.lnsub, ("bf16-mixed",), True),
)
WHOLE = {
    way.name: replace(way, name=f"{way.name}, whole vocabulary", train=recipes.lnsub_whole)
    for way in ALL_WAYS
    if way.train is recipes.lnsub
}
"""lnsub with the embeddings of all tokens, by the name of the way that has those in use."""


def ways() -> tuple[Way, ...]:
    """The recipes that can run here: transformers' Trainer needs the package accelerate."""
    if is_accelerate_available():
        return ALL_WAYS
    return tuple(way for way in ALL_WAYS if way.train is not recipes.transformers_trainer)


CLAIMS = {"xnli": (2.2, 5.0), "wikiann": (5.0, 10.0)}
"""By task: minimum speed relative to the authors' recipe, and maximum % of padding, over a whole epoch."""


def run(quick: bool, repeats: int) -> list[Row]:
    """Times all recipes on the same rows: a turn is an epoch over a sample of batches representative in length.

    Args:
        quick: the embedded model and generated rows, two steps a turn.
        repeats: turns, at most three, in addition to a warm-up.

    Returns:
        The rows; without data, a single row with the reason.
    """
    sources = quick_sources if quick else shared_sources
    with tempfile.TemporaryDirectory() as scratch:
        try:
            specs = sources(Path(scratch))
        except FileNotFoundError as error:
            return [Row("not run", values={"missing": str(error)})]
        steps, turns = 2 if quick else 4, min(repeats, 3)
        rows = [row for spec in specs for row in _measure(spec, steps, turns, quick)]
    if len(ways()) < len(ALL_WAYS):
        rows.append(Row("transformers' Trainer, not run", values={"missing": "the package accelerate"}))
    return rows


def _measure(spec: Spec, steps: int, turns: int, quick: bool) -> list[Row]:
    lengths = spec.datamodule().table("train").data.column("length").to_numpy()
    rows = typical_rows(lengths, spec.batch, steps)
    sample, timed = sampled(spec, rows), _once if quick else _in_turns
    timings, loops = timed(ways(), sample, steps, turns)
    speed, waste = CLAIMS[spec.task]
    found = []
    for way in ways():
        timing = timings[way.name]
        padding = 100 * _padding(lengths, spec, way.grouped)
        values: dict[str, float] = {"examples/s": len(rows) / timing.median, "% padding": padding}
        if way.name in loops:
            reports = loops[way.name].reports[-len(timing.seconds) :]
            values["MB at its peak"] = reports[-1].peak / MB
            if way.train is recipes.lnsub:
                values["% waiting for data"] = 100 * sum(r.waited for r in reports) / sum(r.seconds for r in reports)
        ratio = None if way.name == AUTHORS else timing.ratio(timings[AUTHORS])
        claims = []
        if way.name == LNSUB:
            assert ratio is not None
            claims = [at_least(1 / ratio, speed, "x the authors' examples/s"), at_most(padding, waste, "% padding")]
        reference = "" if ratio is None else _row_name(spec, AUTHORS)
        found.append(Row(_row_name(spec, way.name), timing, reference, ratio, values, claims))
    found.append(_floor(spec, lengths[rows], timings[LNSUB]))
    # By themselves, with lnsub's other ways once more: all together would not fit into memory.
    pairs = [way for way in ALL_WAYS if way.name in WHOLE] + list(WHOLE.values())
    timings, loops = timed(pairs, sample, steps, turns)
    for name, way in WHOLE.items():
        timing = timings[way.name]
        values = {"examples/s": len(rows) / timing.median, "examples/s beside it": len(rows) / timings[name].median}
        if way.name in loops:
            values["MB at its peak"] = loops[way.name].reports[-1].peak / MB
        ratio = timing.ratio(timings[name])
        found.append(Row(_row_name(spec, way.name), timing, _row_name(spec, name), ratio, values))
    return found


def _row_name(spec: Spec, name: str) -> str:
    return f"{spec.task} fr, {name}"


def _in_turns(ways: Sequence[Way], spec: Spec, steps: int, turns: int) -> tuple[dict[str, Timing], dict[str, Loop]]:
    """Times recipes turn by turn, each in a process of its own."""
    loops = {way.name: Loop(way.train, spec, *way.args, steps=steps) for way in ways}
    try:
        for loop in loops.values():
            loop.ready()
        return interleave([Case(name, loop.turn) for name, loop in loops.items()], turns), loops
    finally:
        for loop in loops.values():
            loop.close()


def _once(ways: Sequence[Way], spec: Spec, steps: int, turns: int) -> tuple[dict[str, Timing], dict[str, Loop]]:
    """Runs recipes in this process, for one epoch; the time is mostly setup."""
    spec = replace(spec, epochs=1)
    return interleave([Case(w.name, partial(w.train, spec, *w.args, Steps()), warm=False) for w in ways], 1), {}


def _floor(spec: Spec, lengths: NDArray[np.int64], measured: Timing) -> Row:
    """The time of the matrix products of the real tokens alone, at this machine's rate in bfloat16."""
    config = recipes.config_of(spec)
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    # Two operations per weight and token forward, four backward; attention: scores and their product with the values.
    products = 6 * layers * (4 * width**2 + 2 * width * inner) * lengths.sum()
    attention = 6 * layers * 2 * width * (lengths.astype(np.float64) ** 2).sum()
    left, right = torch.randn(1024, width).bfloat16(), torch.randn(width, inner).bfloat16()
    rate = 2 * left.shape[0] * width * inner / interleave([Case("", partial(torch.mm, left, right))], 20)[""].median
    floor = Timing(((products + attention) / rate,))
    values = {"examples/s": len(lengths) / floor.median, "GFLOP/s in bf16 products": rate / 1e9}
    name = _row_name(spec, "floor: the products of its tokens alone")
    return Row(name, floor, _row_name(spec, LNSUB), floor.ratio(measured), values)


def typical_rows(lengths: NDArray[np.int64], batch: int, count: int) -> NDArray[np.int64]:
    """Picks whole batches of an epoch, evenly spaced in length: rows [count * batch]."""
    batches = [b.rows for b in LengthGroupedBatches(lengths, batch_size=batch) if len(b.rows) == batch]
    batches.sort(key=lambda rows: int(lengths[rows].sum()))
    return np.concatenate([batches[(2 * i + 1) * len(batches) // (2 * count)] for i in range(count)])


def sampled(spec: Spec, rows: NDArray[np.int64]) -> Spec:
    """Writes these rows of the training split as a data set."""
    numbers = spec.datamodule().table("train").data.column("index").to_numpy()[rows]
    folder = Path(spec.cache).parent / f"sample-{spec.task}"
    (folder / "fr").mkdir(parents=True)
    source = Path(spec.data) / "fr"
    pq.write_table(
        pq.read_table(source / "train.parquet").take(pa.array(np.sort(numbers))), folder / "fr" / "train.parquet"
    )
    shutil.copy(source / "validation.parquet", folder / "fr")
    return replace(spec, data=str(folder))


def _padding(lengths: NDArray[np.int64], spec: Spec, grouped: bool | None) -> float:
    """The share of padding among the tokens of a whole epoch."""
    if grouped is None:
        return float(1 - lengths.mean() / spec.longest)
    if grouped:
        batches = [batch.rows for batch in LengthGroupedBatches(lengths, batch_size=spec.batch)]
    else:
        order = np.random.default_rng(0).permutation(len(lengths))
        batches = np.split(order, range(spec.batch, len(order), spec.batch))
    return float(1 - lengths.sum() / sum(lengths[rows].max() * len(rows) for rows in batches))


def shared_sources(scratch: Path) -> list[Spec]:
    """Real data and a real model: French XNLI and WikiANN, in the folder that LNSUB_SHARED names."""
    shared = Path(os.environ.get("LNSUB_SHARED", DEMO.parents[2] / "shared"))
    base = shared / "models" / os.environ.get("LNSUB_BENCH_MODEL", "me5-small")
    folders = {"xnli": shared / "data" / "xnli", "wikiann": shared / "data" / "ner"}
    for path in (base / "config.json", *(folder / "fr" / "train.parquet" for folder in folders.values())):
        if not path.is_file():
            raise FileNotFoundError(f"{path}, where LNSUB_SHARED names the folder of the data and models")
    return [Spec(task, str(base), str(folder), str(scratch / "cache")) for task, folder in folders.items()]


def quick_sources(scratch: Path) -> list[Spec]:
    """The embedded model; the embedded sentences, and pairs of them with arbitrary labels."""
    entities = pq.read_table(DEMO / "data" / "fr" / "train.parquet").slice(0, 256)
    texts = [" ".join(words) for words in entities["tokens"].to_pylist()]
    pairs = {"premise": texts, "hypothesis": texts[::-1], "label": [i % 3 for i in range(len(texts))]}
    for task, table in (("wikiann", entities), ("xnli", pa.table(pairs))):
        folder = scratch / task / "fr"
        folder.mkdir(parents=True)
        for split, rows in (("train", table), ("validation", table.slice(0, 16))):
            pq.write_table(rows, folder / f"{split}.parquet")
    made = partial(Spec, base=str(DEMO / "model"), cache=str(scratch / "cache"), batch=8)
    return [made(task, data=str(scratch / task)) for task in ("xnli", "wikiann")]
