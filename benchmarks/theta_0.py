"""The memory that theta_0 takes beside the model: copied, or mapped from the checkpoint it is on disk in.

The model has the shape of multilingual-e5-small, random weights and a checkpoint in float16, as they are often shared.
"""

import gc
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, PreTrainedModel

from benchmarks.harness import Case, Row, at_most, interleave, row_of
from lnsub.models.subnet import Subnet, Weights
from lnsub.models.theta_0 import on_disk

COPIED, MAPPED = "theta_0 copied", "theta_0 mapped from its checkpoint"


def run(quick: bool, repeats: int) -> list[Row]:
    """Times both ways, and reads the process's memory around each; asserts that they hold the same values."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder), quick)
        subnet = Subnet(model)
        ways: dict[str, Callable[[], Weights]] = {
            COPIED: subnet.snapshot,
            MAPPED: lambda: subnet.snapshot(on_disk(model, folder)),
        }
        copied, mapped = (way() for way in ways.values())
        assert all(torch.equal(copied[name], mapped[name].to(copied[name].dtype)) for name in copied)
        del copied, mapped
        timings = interleave((Case(name, partial(_discard, way)) for name, way in ways.items()), repeats)
        rows = []
        for name, way in ways.items():
            own, of_files = _grown(way)
            claims = [at_most(own, 10, "MB of its own")] if name == MAPPED else []
            values = {"MB of its own": own, "MB of mapped files, shared and dropped when memory is short": of_files}
            rows.append(row_of(name, timings, COPIED, values, claims))
        return rows


def _model(folder: Path, quick: bool) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64} if quick else {}
    me5 = {"vocab_size": 250_037, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    config = BertConfig(**(me5 | {"vocab_size": 100} | sizes if quick else me5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).half().save_pretrained(folder)
    model: PreTrainedModel = BertModel.from_pretrained(folder, dtype=torch.float32)
    return model


def _discard(way: Callable[[], Weights]) -> None:
    way()


def _grown(way: Callable[[], Weights]) -> tuple[float, float]:
    """What holding a snapshot adds to the process's memory in MB: of its own, and of mapped files."""
    gc.collect()
    before = _resident()
    held = way()
    after = _resident()
    del held
    return after[0] - before[0], after[1] - before[1]


def _resident() -> tuple[float, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, of_files = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "RssFile"))
    return own, of_files
