"""Loaders of batches: no signal ends their workers, a GPU finds its batches ready, and an epoch can be resumed."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from lnsub.common.signals import held_signals
from lnsub.data.batching import LengthGroupedBatches
from lnsub.data.prefetch import prefetched


class ShieldedLoader(DataLoader[Any]):
    """A ``DataLoader`` whose workers no signal reaches before their ``worker_init_fn`` has seen to that.

    It goes with :func:`lnsub.common.signals.shield_data_worker`: a run is stopped by signals, its workers by the run.
    Without workers, batches for a GPU are made ahead by a thread (:mod:`lnsub.data.prefetch`).
    """

    @property
    def prefetches(self) -> bool:
        """Whether a thread makes the batches: where they are pinned, so for a GPU, and no worker makes them.

        On a CPU, the thread would take the time that it saves from the step, which uses the same cores.
        """
        return self.pin_memory and self.num_workers == 0

    def __iter__(self) -> Any:
        with held_signals():
            batches = super().__iter__()
        return prefetched(batches) if self.prefetches else batches


class ResumableLoader(ShieldedLoader):
    """A ``DataLoader`` over :class:`LengthGroupedBatches` that can resume in the middle of an epoch.

    Lightning finds ``state_dict`` and ``load_state_dict`` and keeps the position in its checkpoints.
    """

    sampler: LengthGroupedBatches
    delivered: int = 0
    """Batches of the current epoch delivered so far, without those that are only prefetched."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Also a generator: workers must not draw from the sampler before Lightning has set its epoch.
        self.delivered = self.sampler.first_batch
        for batch in super().__iter__():
            self.delivered += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and the position in it."""
        return {"epoch": self.sampler.epoch, "batch": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next pass over that epoch start where ``state`` was taken."""
        self.sampler.set_epoch(state["epoch"])
        self.sampler.first_batch = state["batch"]
