"""The requirements of XLM-R models sharded over ranks: ``python -m benchmarks.scaling``.

Sizes are counted on the models, on the meta device. Memory is calculated from the sizes. So is the time of a pruning
step, with rates measured here by real processes on a model of mBERT's size.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from transformers import (
    PretrainedConfig,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaXLConfig,
    XLMRobertaXLForSequenceClassification,
)

from benchmarks.machine import as_sentence, describe
from lnsub.models.prunable import prunable
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket

RANKS = (1, 2, 4, 8)
GB = 1e9


def _config(kind: type[PretrainedConfig], vocabulary: int, width: int, layers: int, heads: int) -> PretrainedConfig:
    return kind(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        num_labels=3,
    )


MODELS = {
    "XLM-R base": _config(XLMRobertaConfig, 250002, 768, 12, 12),
    "XLM-R large": _config(XLMRobertaConfig, 250002, 1024, 24, 16),
    "XLM-R XL": _config(XLMRobertaXLConfig, 250880, 2560, 36, 32),
    "XLM-R XXL": _config(XLMRobertaXLConfig, 250880, 4096, 48, 32),
}
"""Conneau et al. (2020), https://arxiv.org/abs/1911.02116; Goyal et al. (2021), https://arxiv.org/abs/2105.00572."""


@dataclass(frozen=True)
class Size:
    """The sizes of a model with a head for XNLI."""

    parameters: int
    matrices: int
    prunable: int
    block: int
    """Parameters of one block."""
    outside: int
    """Parameters outside the blocks: embeddings, and everything after the last block."""
    ticket: int
    """Bytes of a ticket's masks."""

    @classmethod
    def of(cls, config: PretrainedConfig) -> "Size":
        """Counts on the model itself, on torch's meta device."""
        large = isinstance(config, XLMRobertaXLConfig)
        kind = XLMRobertaXLForSequenceClassification if large else XLMRobertaForSequenceClassification
        with torch.device("meta"):
            model = kind(config)
        parameters = sum(p.numel() for p in model.parameters())
        sizes = [linear.parameter.numel() for linear in prunable(model).values()]
        blocks = model.base_model.encoder.layer
        block = sum(p.numel() for p in blocks[0].parameters())
        ticket = sum(-(-size // 8) for size in sizes)
        return cls(parameters, len(sizes), sum(sizes), block, parameters - block * len(blocks), ticket)

    def on_a_rank(self, ranks: int) -> float:
        """Device memory in bytes of a rank in a step under bf16-mixed, without activations.

        Its shard of weights, gradients and Adam's two moments in float32, and of the masks, a byte per weight. In
        addition, in bfloat16: on one rank, autocast's copies of the matrices; on several, the parameters that
        fully_shard has gathered (everything outside the blocks, and two blocks) and the gradient of the largest of
        these, which is also converted to float32 for the reduction.
        """
        share = (16 * self.parameters + self.prunable) / ranks
        if ranks == 1:
            return share + 2 * self.prunable
        return share + 2 * (self.outside + 2 * self.block) + (2 + 4) * max(self.outside, self.block)

    def theta_0(self, ranks: int) -> float:
        """Host memory in bytes that a rank needs for theta_0."""
        return 4 * self.parameters / ranks


@dataclass(frozen=True)
class Rates:
    """Weights per second of processor time, on one CPU thread."""

    select: float
    """Ranked in :func:`lnsub.pruning.selection.select`."""
    ticket: float
    """Packed and written in a ticket."""

    def prune(self, size: Size, ranks: int) -> float:
        """Seconds of a pruning step with one core per rank, which ranks its shard and packs the whole mask."""
        return size.prunable / ranks / self.select + size.prunable / self.ticket


def tables(rates: Rates) -> str:
    """The tables of the docs, in Markdown."""
    sizes = {name: Size.of(config) for name, config in MODELS.items()}
    columns = " | ".join(f"{n} rank{'s' * (n > 1)}" for n in RANKS)

    def table(what: str, cell: Any) -> str:
        rows = [f"| {name} | " + " | ".join(cell(size, n) for n in RANKS) + " |" for name, size in sizes.items()]
        return "\n".join([f"| {what} | {columns} |", "| --- |" + " --: |" * len(RANKS), *rows])

    counted = "\n".join(
        f"| {name} | {size.parameters:,} | {size.matrices} | {size.prunable:,} | {size.ticket / 1e6:,.1f} MB |"
        for name, size in sizes.items()
    )
    return "\n\n".join(
        [
            "| model | parameters | prunable matrices | prunable weights | a ticket |\n"
            f"| --- | --: | --: | --: | --: |\n{counted}",
            table("memory of a rank's device", lambda size, n: f"{size.on_a_rank(n) / GB:.1f} GB"),
            table("theta_0 in a rank's host memory", lambda size, n: f"{size.theta_0(n) / GB:.1f} GB"),
            table("time of a prune, a core a rank", lambda size, n: f"{rates.prune(size, n):.1f} s"),
        ]
    )


# The rates ----------------------------------------------------------------------------------------------------------


def measure(rank: int, count: int, folder: str, layers: int, repeats: int) -> tuple[int, list[float], list[float]]:
    """Measures on one rank: the number of weights, and processor seconds of each selection and each ticket.

    Wall time would depend on what else the machine is doing.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{count}", rank=rank, world_size=count)
    mesh = init_device_mesh("cpu", (count,))
    generator = torch.Generator().manual_seed(0)
    shapes = {"query": (768, 768), "key": (768, 768), "value": (768, 768), "output": (768, 768)}
    shapes |= {"intermediate": (3072, 768), "final": (768, 3072)}
    weights: dict[str, torch.Tensor] = {}
    kept: dict[str, torch.Tensor] = {}
    for layer in range(layers):
        for name, shape in shapes.items():
            whole = torch.randn(shape, generator=generator).mul_(0.02)
            for where, tensor in ((weights, whole), (kept, torch.ones(shape, dtype=torch.bool))):
                shared = distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None)
                where[f"encoder.layer.{layer}.{name}.weight"] = shared if count > 1 else tensor
    mask = Mask(kept)
    provenance = Provenance("mBERT's size", "", "xnli", "en", 0, 1, 0.5, "magnitude", "global", "linear")
    selecting, writing = [], []
    for _ in range(repeats):
        start = time.process_time()
        found = select(weights, mask, 0.5)
        selecting.append(time.process_time() - start)
        start = time.process_time()
        packed = found.to_packed()
        if rank == 0:
            Ticket(packed, found.shapes, provenance).save(Path(folder) / "ticket.safetensors")
        writing.append(time.process_time() - start)
    dist.destroy_process_group()
    return mask.total, selecting, writing


def measured(count: int, layers: int, repeats: int) -> tuple[int, list[float], list[float]]:
    """Starts ``count`` processes that share a model, and returns the first one's result; see :func:`measure`."""
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(count) as pool:
        return pool.starmap(measure, [(rank, count, folder, layers, repeats) for rank in range(count)], chunksize=1)[0]


def report(layers: int, repeats: int) -> str:
    """Measures, and formats rates, conditions and tables as Markdown, from which :func:`rates_in` reads the rates."""
    machine = describe() | {"threads": 1}
    total, one, ticket = measured(1, layers, repeats)
    _, two, _ = measured(2, layers, repeats)
    select_rate, ticket_rate = (f"{total / statistics.median(s) / 1e6:.1f}" for s in (one, ticket))
    measurements = f"""Rates, of {total:,} weights in float32, by processor time, median of {repeats} turns: selection
of half of them {select_rate} million weights a second, in one process ({_range(one)}); in two that share them, each
is at work for {_range(two)}. A ticket packed and written: {ticket_rate} million weights a second.
{as_sentence(machine)}."""
    return f"{measurements}\n\n{tables(rates_in(measurements))}"


def _range(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s"


def rates_in(text: str) -> Rates:
    """Parses the rates in a report."""
    found = re.findall(r"([\d.]+) million\s+weights\s+a\s+second", text)
    return Rates(*(float(number) * 1e6 for number in found))


def main(args: Sequence[str] | None = None) -> None:
    """Measures, and prints the report or inserts it into a page between its markers."""
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a toy size: a smoke test without meaningful results")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="insert the report into a Markdown page")
    options = parser.parse_args(args)
    text = report(1 if options.quick else 12, options.repeats)
    if options.write is None:
        print(text)  # noqa: T201 (a command's output)
        return
    page = options.write.read_text(encoding="utf-8")
    place = re.compile(r"(<!-- scaling -->\n).*?(<!-- end scaling -->)", re.DOTALL)
    options.write.write_text(place.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
