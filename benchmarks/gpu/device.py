"""GPU-specific measurements; each has a CPU equivalent, so that all code paths can run without a GPU."""

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import Timing

_SYNC = "synchronizing CUDA operation"


@dataclass(frozen=True)
class Device:
    """The device to measure on: ``cuda`` or ``cpu``."""

    name: str

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name == "cuda"

    @property
    def torch(self) -> torch.device:
        """The torch device."""
        return torch.device(self.name)

    def wait(self) -> None:
        """Waits for all launched work."""
        if self.gpu:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], object], calls: int, before: Callable[[], object] | None = None) -> Timing:
        """Device seconds of each of ``calls`` calls of ``work``, after two warm-up calls.

        They include time in which the device waits for the host to launch work.

        Args:
            work: the function to time.
            calls: number of timed calls.
            before: called before each call, untimed.
        """
        seconds = []
        for call in range(calls + 2):
            if before is not None:
                before()
            taken = self._events(work) if self.gpu else self._clock(work)
            if call >= 2:
                seconds.append(taken)
        return Timing(tuple(seconds))

    def _events(self, work: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def _clock(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def start_of_peak(self) -> None:
        """Resets the peak of the device's memory."""
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Peak bytes of tensors since :meth:`start_of_peak`; 0 on the CPU."""
        return torch.cuda.max_memory_allocated() if self.gpu else 0

    def free(self) -> None:
        """Frees unreferenced memory."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()

    def waits(self, work: Callable[[], object]) -> int:
        """The number of times the host waits for the device during ``work``; 0 on the CPU."""
        with self._telling_waits(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            work()
        return sum(_SYNC in str(warning.message) for warning in told)

    @contextmanager
    def _telling_waits(self) -> Iterator[None]:
        if not self.gpu:
            yield
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def launches(self, work: Callable[[], object]) -> int:
        """The number of kernels and copies that the device runs for ``work``; on the CPU, of operations."""
        activity = ProfilerActivity.CUDA if self.gpu else ProfilerActivity.CPU
        with profile(activities=[activity]) as profiled:
            work()
            self.wait()
        kind = torch.autograd.DeviceType.CUDA if self.gpu else torch.autograd.DeviceType.CPU
        return sum(event.device_type == kind for event in profiled.events())
