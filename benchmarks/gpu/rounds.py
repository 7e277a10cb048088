"""What a run does beside training steps: pruning between rounds, validation, checkpoints."""

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.device import Device
from benchmarks.gpu.steps import VARIANTS, Found, Step, make_module
from benchmarks.gpu.workload import Settings, make_batches
from benchmarks.harness import MB, Claim, Row, Timing, at_most
from lnsub.models.snapshots import on_gpu
from lnsub.pruning.masks import Mask
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.selection import select
from lnsub.runs.folder import RunFolder
from lnsub.training.background import CheckpointWriter
from lnsub.training.imp import LINEAR_LEVELS

SELECTION_MS = 3.0


def between_rounds(settings: Settings) -> Found:
    """Selection, rewind and ticket, where they run: on the device, as the weights stay there from fit to fit."""
    device = settings.device
    module = make_module(settings, VARIANTS["eager, padded"])
    theta_0 = module.subnet.snapshot()
    module.to(device.torch)
    subnet = module.subnet
    weights = {name: weight.detach() for name, weight in subnet.weights.items()}
    dense = Mask.dense(subnet.shapes, device.torch)
    calls = 3 if settings.quick else 10
    rows, mask = [], dense
    for level in LINEAR_LEVELS:
        rows.append(_selection(device, weights, mask, level, "global", calls))
        mask = select(weights, mask, level, "global")
    slowest = max(row.timing.median for row in rows if row.timing)
    rows += [_selection(device, weights, dense, 0.5, scope, calls) for scope in SCOPES if scope != "global"]
    pruning = {
        "set a mask": device.time(partial(subnet.set_mask, mask), calls),
        "rewind": device.time(partial(subnet.rewind, on_gpu(theta_0, device.torch)), calls),
        "pack a mask for its ticket": device.time(mask.to_packed, 3),
    }
    rows += [Row(name, timing) for name, timing in pruning.items()]
    rows.append(Row("rewind from the host, as in the first round", device.time(partial(subnet.rewind, theta_0), 3)))
    return rows, {"seconds": slowest + sum(timing.median for timing in pruning.values())}


def _selection(device: Device, weights: dict[str, Tensor], mask: Mask, level: float, scope: str, calls: int) -> Row:
    """One pruning step: the time on the device, and the number of times the host waits for it."""
    work = partial(select, weights, mask, level, scope)
    timing: Timing = device.time(work, calls)
    claims: list[Claim] = [at_most(1e3 * timing.median, SELECTION_MS, "ms")] if device.gpu else []
    name = f"select {scope}, sparsity {mask.sparsity:.1f} to {level:.1f}"
    return Row(name, timing, values={"waits for the device": device.waits(work)}, claims=claims)


def validating(settings: Settings) -> Found:
    """The forward passes of a validation, in large batches."""
    device, rows = settings.device, settings.rows[1]
    module = make_module(settings, VARIANTS["eager, padded"]).to(device.torch).eval()
    made = make_batches(settings, rows, VARIANTS["eager, padded"].multiple)[:10]

    @torch.inference_mode()
    def passes() -> None:
        with torch.autocast(device.name, torch.bfloat16):
            for batch in made:
                here = {name: tensor.to(device.torch, non_blocking=True) for name, tensor in batch.items()}
                module.val_metrics.update(module(here), here["labels"])

    module.val_metrics.to(device.torch)
    timing = device.time(passes, 3)
    rate = len(made) * rows / timing.median
    row = Row(f"validation: {len(made)} batches of {rows}", timing, values={"examples/s": rate})
    return [row], {"rate": rate}  # not as "examples/s", by which ways to train are compared


def checkpointing(settings: Settings) -> Found:
    """What a checkpoint takes of the training thread: the copy of its state to the host; it is written meanwhile."""
    device = settings.device
    step = Step(settings, VARIANTS["eager, padded"])
    batch = make_batches(settings, settings.rows[0], VARIANTS["eager, padded"].multiple)[0]
    step({name: tensor.to(device.torch) for name, tensor in batch.items()})
    state = {"state_dict": step.module.state_dict(), "optimizer_states": [step.optimizer.state_dict()]}
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        writer = CheckpointWriter(folder)
        timing = device.time(partial(writer.start, state), 1 if settings.quick else 3, before=writer.wait)
        writer.wait()
        values = {"MB in the file": folder.checkpoint.stat().st_size / MB}
    return [Row("a checkpoint, its share of the training thread", timing, values=values)], {"seconds": timing.highest}
