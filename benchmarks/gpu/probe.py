"""Experiments around a training step on a GPU, each beside what was predicted for an H100.

The predictions are from counts on the null GPU and from the bandwidth and the rate of products of an H100 (3.0 TB/s,
798 TFLOP/s in bf16). What differs by more than a third wants an explanation. An experiment that fails is told of, and
the others go on. With ``--device cpu --tiny`` all run at toy sizes, to see that they do.
"""

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from benchmarks.gpu import CONSOLE
from benchmarks.gpu.device import Device
from benchmarks.gpu.fits import Loader
from benchmarks.gpu.steps import VARIANTS, Step
from benchmarks.gpu.workload import Settings, make_batches, shape
from lnsub.data.loaders import ResumableLoader

ROWS, HEADS, WIDTH = 32, 12, 64

Found = dict[str, float | int | str]
Tell = Callable[[str, float | int | str, str], None]
"""Takes the name of a number, the number, and what was predicted, or nothing."""


class Bench:
    """What the experiments share: where they run, and how they time.

    Args:
        settings: the device and the sizes.
        tell: takes each number.
    """

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self.settings = settings
        self.device = settings.device
        self._tell = tell

    def say(self, name: str, value: float | int | str, predicted: str = "") -> None:
        """Reports one number."""
        self._tell(name, value, predicted)

    def wall(self, work: Callable[[], object]) -> float:
        """Seconds from now until the device has done the work."""
        self.device.wait()
        start = time.perf_counter()
        work()
        self.device.wait()
        return time.perf_counter() - start

    def host(self, work: Callable[[], object]) -> float:
        """Seconds that the host takes to launch the work; the device is idle at the start."""
        self.device.wait()
        start = time.perf_counter()
        work()
        taken = time.perf_counter() - start
        self.device.wait()
        return taken

    def middle(self, measure: Callable[[], float], calls: int = 10) -> float:
        """The median of some measurements, after two that do not count."""
        return statistics.median([measure() for _ in range(calls + 2)][2:])

    def batches(self) -> list[dict[str, Tensor]]:
        """One window of batches, on the device."""
        made = make_batches(self.settings, self.settings.rows[0], 16)
        return [{name: tensor.to(self.device.torch) for name, tensor in batch.items()} for batch in made]

    def over(self, variant: str, name: str, predicted: str) -> None:
        """Times passes of a variant of the step over one window of batches."""
        step, batches = Step(self.settings, VARIANTS[variant]), self.batches()

        def all_of_them() -> None:
            for batch in batches:
                step(batch)

        first, second = self.wall(all_of_them), self.wall(all_of_them)
        later = statistics.median(self.wall(all_of_them) for _ in range(3))
        self.say(f"{name}: ms a step", 1e3 * later / len(batches), predicted)
        self.say(f"{name}: examples/s", self.settings.rows[0] * len(batches) / later)
        self.say(f"{name}: ms of the host a step", 1e3 * self.middle(lambda: self.host(partial(step, batches[0]))))
        self.say(f"{name}: s that the first pass took longer", first - later)
        self.say(f"{name}: s that the second pass took longer", second - later)
        finite = torch.stack([weight.isfinite().all() for weight in step.module.parameters()]).all()
        self.say(f"{name}: all weights finite", str(bool(finite)), "True")


@contextmanager
def cudnn(enabled: bool) -> Iterator[None]:
    """Lets scaled dot-product attention take cuDNN, or not."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


# Experiments, in order of use ---------------------------------------------------------------------------------------


def facts(bench: Bench) -> None:
    """What is there."""
    bench.say("device", torch.cuda.get_device_name() if bench.device.gpu else "CPU")
    bench.say("torch, cuDNN", f"{torch.__version__}, {torch.backends.cudnn.version()}")


def nan(bench: Bench) -> None:
    """Gradients by attention at a width of 64 (mod 128) where a row's logsumexp is below -88.7: pytorch 196678."""
    for enabled in (True, False):
        with cudnn(enabled):
            torch.manual_seed(0)
            q, k, v = (torch.randn(1, 1, 64, 64, device=bench.device.torch, dtype=torch.bfloat16) / 10 for _ in "qkv")
            q[..., 0], k[..., 0] = 1.0, -960.0
            for states in (q, k, v):
                states.requires_grad_()
            mask = torch.ones(1, 1, 64, 64, dtype=torch.bool, device=bench.device.torch)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            out.backward(torch.randn_like(out))
            assert q.grad is not None
            bad = int((~q.grad.isfinite()).sum())
            bench.say(f"NaN in a gradient, cuDNN {_switch(enabled)}", bad, "up to 4096" if enabled else "0")


def sdpa(bench: Bench) -> None:
    """What the first batch of each width costs attention, and what a later one does: with cuDNN and without."""
    widths = (16, 32) if bench.settings.quick else tuple(range(16, 129, 16))
    for enabled in (True, False):
        first, later = [], []
        with cudnn(enabled):
            for length in widths:
                made = (torch.randn(ROWS, length, HEADS, WIDTH, device=bench.device.torch) for _ in "qkv")
                q, k, v = (states.bfloat16().transpose(1, 2).requires_grad_() for states in made)
                mask = torch.ones(ROWS, 1, 1, length, device=bench.device.torch, dtype=torch.bool)
                mask[::2, ..., length - 2 :] = False
                mask = mask.expand(ROWS, 1, length, length)

                def both(q: Tensor = q, k: Tensor = k, v: Tensor = v, mask: Tensor = mask) -> None:
                    F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1).sum().backward()

                first.append(bench.wall(both))
                later.append(bench.middle(partial(bench.wall, both), 5))
        what = f"attention, cuDNN {_switch(enabled)}"
        cost = sum(first) - sum(later)
        bench.say(f"{what}: s that {len(widths)} new widths cost", cost, "0.5 to 8" if enabled else "0.1")
        bench.say(f"{what}: ms forward and backward, widest", 1e3 * later[-1], "0.1 to 0.2")


def eager(bench: Bench) -> None:
    """The eager step, with cuDNN's attention and without."""
    for enabled in (False, True):
        with cudnn(enabled):
            bench.over("eager, padded", f"eager, cuDNN {_switch(enabled)}", "15 to 25, all of it host")


def captured(bench: Bench) -> None:
    """The whole step as one CUDA graph for each width."""
    bench.over("captured, padded", "captured", "8 to 10")


def captured_compiled(bench: Bench) -> None:
    """The same around the compiled model."""
    bench.over("captured and compiled, padded", "captured and compiled", "6 to 7")


def tail(bench: Bench) -> None:
    """Masking, clipping and AdamW by themselves, for the host and in all."""
    step, batch = Step(bench.settings, VARIANTS["eager, padded"]), bench.batches()[0]
    for _ in range(2):
        step(batch)
    pieces: dict[str, tuple[Callable[[], Any], str]] = {
        "mask": (step.module.subnet.mask_gradients, "0.34"),
        "clip": (step.clip, "0.7"),
        "AdamW": (step.optimizer.step, "1.7"),
    }
    for name, (work, predicted) in pieces.items():
        bench.say(f"{name}: ms of the host", 1e3 * bench.middle(partial(bench.host, work)))
        bench.say(f"{name}: ms in all", 1e3 * bench.middle(partial(bench.wall, work)), predicted)


def loading(bench: Bench) -> None:
    """Milliseconds that the loader takes for a batch while the device is idle: by a thread, and by processes."""
    data = Loader(bench.settings, 16)
    for workers in (0, 2):
        made = data.train_dataloader()
        loader = ResumableLoader(
            dataset=made.dataset,
            sampler=made.sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=bench.device.gpu,
        )
        for _ in loader:
            pass
        start = time.perf_counter()
        count = sum(1 for _ in range(3) for _ in loader)
        name = f"{workers} loader processes" if workers else "loader without processes"
        bench.say(f"{name}: ms a batch", 1e3 * (time.perf_counter() - start) / count, "0.6 to 1.2")


EXPERIMENTS: dict[str, Callable[[Bench], None]] = {
    f.__name__: f for f in (facts, nan, sdpa, captured, eager, tail, captured_compiled, loading)
}


def _switch(on: bool) -> str:
    return "on" if on else "off"


def main(args: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status: 1 where an experiment failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.probe", description=__doc__)
    parser.add_argument("--only", default="", metavar="A,B", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: with --tiny only")
    parser.add_argument("--minutes", type=float, default=6.5, metavar="M", help="no experiment begins later")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers, after each experiment")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    options = parser.parse_args(args)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu needs --tiny")
    if options.device == "cuda" and not torch.cuda.is_available():
        CONSOLE.print("Not run: torch sees no GPU (CUDA) here.")
        return 0
    names = [name for name in options.only.split(",") if name] or list(EXPERIMENTS)
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        parser.error(f"no experiment {unknown[0]!r}: choose from {', '.join(EXPERIMENTS)}")
    found: Found = {}
    failed = False

    def tell(name: str, value: float | int | str, predicted: str) -> None:
        found[name] = value
        shown = f"{value:.4g}" if isinstance(value, float) else value
        CONSOLE.print(f"{name}: {shown}" + f"   (predicted {predicted})" * bool(predicted))

    end = time.monotonic() + 60 * options.minutes
    with shape(options.tiny) as folder:
        settings = Settings(Device(options.device), folder, options.tiny, 3)
        for name in names:
            if time.monotonic() > end:
                CONSOLE.print(f"{name}: not run, the time was up")
                continue
            CONSOLE.print(f"--- {name}: {(EXPERIMENTS[name].__doc__ or '').strip()}")
            try:
                EXPERIMENTS[name](Bench(settings, tell))
            except Exception as error:
                failed = True
                traceback.print_exc()
                tell(f"{name}: FAILED", f"{type(error).__name__}: {str(error).splitlines()[:1]}", "")
            settings.device.free()
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
