"""The device's peak rates, and the time of each piece of a step."""

from functools import partial

import torch
from torch import Tensor
from transformers import BertConfig

from benchmarks.gpu.steps import VARIANTS, Found, Step
from benchmarks.gpu.workload import Settings, make_batches, products
from benchmarks.harness import Row


def ceilings(settings: Settings) -> Found:
    """Matrix products in bfloat16 and copies within device memory: the upper bounds for everything else."""
    device, size = settings.device, 64 if settings.quick else 8192
    left, right = (torch.randn(size, size, device=device.torch, dtype=torch.bfloat16) for _ in range(2))
    peak = device.time(partial(torch.mm, left, right), 20)
    rate = 2.0 * size**3 / peak.median
    source = torch.randn(1 << (16 if settings.quick else 29), device=device.torch)
    target = torch.empty_like(source)
    copy = device.time(partial(target.copy_, source), 20)
    bandwidth = 2.0 * source.nbytes / copy.median
    rows = [
        Row(f"bf16 product of {size:,} x {size:,} matrices", peak, values={"TFLOP/s": rate / 1e12}),
        Row(f"copy of {source.nbytes / 1e9:.2g} GB", copy, values={"TB/s, read and written": bandwidth / 1e12}),
    ]
    return rows, {"peak": rate, "bandwidth": bandwidth}


def of_a_step(settings: Settings, variant: str) -> Found:
    """Each piece of a step at the recipe's batch size, with the minimum memory traffic of each."""
    device = settings.device
    step = Step(settings, VARIANTS[variant])
    batches = make_batches(settings, settings.rows[0], VARIANTS[variant].multiple)
    middle = sorted(batches, key=lambda batch: int(batch["attention_mask"].sum()))[len(batches) // 2]
    batch = {name: tensor.to(device.torch) for name, tensor in middle.items()}
    for _ in range(3):
        step(batch)
    losses: list[Tensor] = []

    def forward() -> None:
        losses.append(step.forward(batch))

    def backward() -> None:
        losses.pop().backward()

    def before_forward() -> None:
        if losses:  # CUDA graphs replay only when the last pass is complete
            backward()
        step.optimizer.zero_grad()

    def before_backward() -> None:
        before_forward()
        forward()

    module, calls = step.module, 3 if settings.quick else 20
    parameters = sum(parameter.numel() for parameter in module.parameters())
    masked = sum(weight.numel() for weight in module.subnet.weights.values())
    pieces = {
        "forward": (device.time(forward, calls, before_forward), 0),
        "backward": (device.time(backward, calls, before_backward), 0),
        # Gradients read and written, masks read.
        "mask": (device.time(module.subnet.mask_gradients, calls), masked * (4 + 4 + 1)),
        # Gradients read for their norm, then read and written.
        "clip": (device.time(step.clip, calls), parameters * (4 + 4 + 4)),
        # Weights and both moments read and written, gradients read.
        "AdamW": (device.time(step.optimizer.step, calls), parameters * (3 * 8 + 4)),
    }
    lengths = batch["attention_mask"].sum(1).cpu().numpy()
    flops = products(BertConfig.from_pretrained(settings.folder), lengths)
    rows = []
    for name, (timing, moved) in pieces.items():
        values = {"GB through memory, at least": moved / 1e9} if moved else {}
        rows.append(Row(f"{variant}: {name}", timing, values=values))
    work = {"tokens": int(lengths.sum()), "TFLOP of products": flops / 1e12}
    launches = device.launches(partial(step, batch))
    rows.append(Row(f"{variant}: the whole of this step", values={**work, "kernels and copies": launches}))
    return rows, {"flop": flops, "bytes": float(sum(moved for _, moved in pieces.values()))}
