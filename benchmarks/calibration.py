"""Tickets without training against the size of a decoder: ``python -m benchmarks.calibration``.

Decoders of several sizes with random weights in bfloat16 are pruned by Wanda, each in a process of its own: the pass
over a sample, whole and layer by layer, and the masks of its rows. Time and memory of Llama 2 7B and of other sizes are
calculated from its shapes and the rates of the largest model that is measured.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from benchmarks.harness import in_own_process, memory_of
from benchmarks.machine import as_sentence, describe
from lnsub.calibration.masks import packed_masks
from lnsub.models.prunable import blocks_of, input_axes, prunable
from lnsub.models.subnet import Subnet
from lnsub.pruning.scores import ScoreInputs
from lnsub.training.collector import SampleSums
from lnsub.training.layer_sums import LayerSums

VOCABULARY = 32_000
LENGTH = 256
TOGETHER = 4
"""Blocks in a pass."""


def _config(width: int, layers: int, inner: int, heads: int, shared: int | None = None) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared or heads,
    )


MEASURED = (_config(256, 6, 1024, 4), _config(512, 8, 2048, 8), _config(768, 12, 2304, 12), _config(1024, 20, 2816, 16))
"""From 6 to 257 million weights in the blocks."""

CALCULATED = {
    "Llama 3.2 1B": _config(2048, 16, 8192, 32, 8),
    "Llama 2 7B": _config(4096, 32, 11008, 32),
    "Llama 2 13B": _config(5120, 40, 13824, 40),
}
"""The shapes of the blocks as published; with Llama 2's vocabulary."""


@dataclass(frozen=True)
class Size:
    """What matters of a model's shapes.

    Attributes:
        parameters: all of them.
        prunable: those in the blocks' matrices, which is all that a pass and the masks take time for.
        block: parameters of one block.
        inputs: input features of all matrices.
    """

    parameters: int
    prunable: int
    block: int
    inputs: int

    @classmethod
    def of(cls, config: LlamaConfig) -> "Size":
        """Counts on the model, on torch's meta device."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        entries = prunable(model).values()
        return cls(
            parameters=sum(p.numel() for p in model.parameters()),
            prunable=sum(entry.parameter.numel() for entry in entries),
            block=sum(p.numel() for p in blocks_of(model)[0].parameters()),
            inputs=sum(entry.parameter.shape[entry.inputs] for entry in entries),
        )

    def memory(self, *, by_layer: bool) -> float:
        """Bytes of a device, without activations: weights in bfloat16, a byte of mask for each, and sums in float64.

        Layer by layer, those of one block; the rest stays in the host's memory, or in the file that is mapped.
        """
        weights = 3 * self.block if by_layer else 2 * self.parameters + self.prunable
        return weights + 8 * self.inputs

    def ticket(self) -> float:
        """Bytes of a ticket."""
        return self.prunable / 8


@dataclass(frozen=True)
class Rates:
    """What the largest measured model does.

    Attributes:
        passing: weights times tokens a second, of the pass.
        masking: weights a second, of making one mask.
    """

    passing: float
    masking: float

    def seconds(self, size: Size, tokens: int, masks: int, speed: float = 1.0) -> float:
        """Seconds of a language's sample and its masks, on a device that passes ``speed`` times as fast."""
        return size.prunable * tokens / self.passing / speed + size.prunable * masks / self.masking


# Measurements -------------------------------------------------------------------------------------------------------


def _model(config: LlamaConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.use_cache = False
    return model.eval()


def prepared(config: LlamaConfig, blocks: int) -> Callable[[], tuple[float, float]]:
    """Makes a model; returns the work, which gives the seconds of the pass and of making a mask."""
    return partial(_prune, _model(config), torch.randint(0, VOCABULARY, (blocks, LENGTH)))


def _prune(model: PreTrainedModel, ids: torch.Tensor) -> tuple[float, float]:
    subnet = Subnet(model)
    weights = {name: weight.detach() for name, weight in subnet.weights.items()}
    sums = LayerSums(
        model, {n: torch.zeros(()).expand(w.shape) for n, w in weights.items()}, frozenset({"activations"})
    )
    base: nn.Module = model.base_model
    start = time.perf_counter()
    with torch.no_grad(), sums.recording():
        for part in ids.split(TOGETHER):
            sums.start([torch.ones_like(part, dtype=torch.bool)])
            base(input_ids=part)
    passed = time.perf_counter()
    none = torch.zeros((), dtype=torch.int64)
    means = SampleSums(len(ids), none, {}, {}, sums.inputs, sums.tokens).means()
    inputs = ScoreInputs(weights=weights, inputs=input_axes(model), activations=means["activations"])
    packed_masks("wanda", inputs, [0.5], "row", None, torch.device("cpu"))
    return passed - start, time.perf_counter() - passed


def timed(config: LlamaConfig, blocks: int, repeats: int) -> list[tuple[float, float]]:
    """Times the work several times, after once to warm up."""
    model, ids = _model(config), torch.randint(0, VOCABULARY, (blocks, LENGTH))
    found = []
    for turn in range(repeats + 1):
        result = _prune(_unmasked(model), ids)
        found += [result] if turn else []
    return found


def _unmasked(model: PreTrainedModel) -> PreTrainedModel:
    """The model without the masks that an earlier turn put beside its weights."""
    for module in model.modules():
        for name in [name for name in module._buffers if name.endswith("_mask")]:
            del module._buffers[name]
        module._load_state_dict_post_hooks.clear()
    return model


# Report -------------------------------------------------------------------------------------------------------------


def report(configs: Sequence[LlamaConfig], blocks: int, repeats: int) -> str:
    """Measures, and formats the tables in Markdown; the calculated ones follow from :func:`rates_in`."""
    rows, tokens = [], blocks * LENGTH
    for config in configs:
        size, found = Size.of(config), in_own_process(timed, config, blocks, repeats)
        memory = memory_of(prepared, config, blocks)
        passing, masking = (statistics.median(seconds) for seconds in zip(*found, strict=True))
        more = (memory.peak - memory.before) / 1e6
        rows.append(
            f"| {size.prunable / 1e6:,.1f} | {tokens / passing:,.0f} | {size.prunable * tokens / passing / 1e9:,.1f} | "
            f"{size.prunable / masking / 1e6:,.1f} | {2 * size.parameters / 1e6:,.0f} | {more:,.0f} |"
        )
    measured = "\n".join(
        [
            f"A sample of {tokens:,} tokens in blocks of {LENGTH}, {TOGETHER} at a time, in bfloat16; medians of",
            f"{repeats} turns. {as_sentence(describe())}.",
            "",
            "| million weights in the blocks | tokens a second | 10⁹ weights x tokens a second "
            "| masks: million weights a second | MB of weights | MB beyond them at the peak |",
            "| --: | --: | --: | --: | --: | --: |",
            *rows,
        ]
    )
    return f"{measured}\n\n{calculated(rates_in(measured))}"


def rates_in(text: str) -> Rates:
    """Parses the rates of the largest model from a report."""
    rows = re.findall(r"^\| [\d.,]+ \| [\d.,]+ \| ([\d.,]+) \| ([\d.,]+) \| [\d.,]+ \| [\d.,]+ \|$", text, re.MULTILINE)
    passing, masking = (float(number.replace(",", "")) for number in rows[-1])
    return Rates(passing * 1e9, masking * 1e6)


TOKENS = 128 * 2048
"""A sample as Sun et al. (2024) take it."""

GPU = 300e12
"""Multiplications and additions a second that an H100 does in bfloat16 in practice: two for each weight and token."""


def calculated(rates: Rates) -> str:
    """The table of larger models, one language and one sparsity."""
    rows = [
        "| model | weights in the blocks | device memory | layer by layer | a ticket | two cores | a GPU |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, config in CALCULATED.items():
        size = Size.of(config)
        here = rates.seconds(size, TOKENS, 1)
        there = 2 * size.prunable * TOKENS / GPU
        rows.append(
            f"| {name} | {size.prunable / 1e9:.2f} billion | {size.memory(by_layer=False) / 1e9:.1f} GB | "
            f"{size.memory(by_layer=True) / 1e9:.1f} GB | {size.ticket() / 1e6:,.0f} MB | {here / 3600:.1f} h | "
            f"{there:.0f} s |"
        )
    return "\n".join(rows)


def main(args: Sequence[str] | None = None) -> None:
    """Measures, and prints the report or inserts it into a page between its markers."""
    parser = argparse.ArgumentParser("python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a toy size: a smoke test without meaningful results")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="turns (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="insert the report into a Markdown page")
    options = parser.parse_args(args)
    configs = (_config(64, 2, 128, 2),) if options.quick else MEASURED
    text = report(configs, 4 if options.quick else 16, options.repeats)
    if options.write is None:
        print(text)  # noqa: T201 (a command's output)
        return
    page = options.write.read_text(encoding="utf-8")
    place = re.compile(r"(<!-- calibration -->\n).*?(<!-- end calibration -->)", re.DOTALL)
    options.write.write_text(place.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
