"""Whole fits: Lightning's trainer with lnsub's module, loader and callbacks, timed per epoch."""

import logging
import tempfile
import time
import warnings
from typing import Any

import datasets
import numpy as np
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from benchmarks.gpu.steps import CLIP, VARIANTS, Found, make_module
from benchmarks.gpu.workload import Settings, make_table
from benchmarks.harness import MB, Row, Timing
from lnsub.data.batching import BatchedRows, Collator, LengthGroupedBatches
from lnsub.data.loaders import ResumableLoader


class Loader(LightningDataModule):
    """One window of batches per epoch, loaded as lnsub's data modules do.

    Args:
        settings: the sizes.
        multiple: that widths are rounded up to.
    """

    def __init__(self, settings: Settings, multiple: int) -> None:
        super().__init__()
        self._table: datasets.Dataset = make_table(settings, settings.rows[0])
        self._settings = settings
        self._multiple = multiple

    def train_dataloader(self) -> DataLoader[Any]:
        """The batches, by a thread on a GPU as in the configurations."""
        lengths = np.asarray(self._table.data.column("length").to_numpy())
        return ResumableLoader(
            dataset=BatchedRows(self._table, Collator(pad_id=0, multiple=self._multiple)),
            sampler=LengthGroupedBatches(lengths, batch_size=self._settings.rows[0], num_replicas=1, rank=0),
            batch_size=None,
            pin_memory=self._settings.device.gpu,
        )


class Clock(Callback):
    """Records the start and end of each epoch, synchronised with the device."""

    def __init__(self, settings: Settings) -> None:
        self._device = settings.device
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for the device, then starts the clock."""
        self._device.wait()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for the device, then stops the clock."""
        self._device.wait()
        self.seconds.append(time.perf_counter() - self._start)


def fit(settings: Settings, name: str) -> Found:
    """Fits with one of lnsub's variants, at the recipe's batch size.

    Args:
        settings: the benchmark's settings.
        name: key of the variants.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    variant, device = VARIANTS[name], settings.device
    module, clock = make_module(settings, variant), Clock(settings)
    device.start_of_peak()
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (2 + settings.repeats, 2):  # the second fit is as in a later round: nothing is compiled again
            trainer = Trainer(
                accelerator="gpu" if device.gpu else "cpu",
                devices=1,
                max_epochs=epochs,
                precision="bf16-mixed",
                gradient_clip_val=CLIP,
                limit_val_batches=0,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                use_distributed_sampler=False,
                default_root_dir=folder,
                logger=False,
                callbacks=[clock],
            )
            trainer.fit(module, datamodule=Loader(settings, variant.multiple))
    first, later = clock.seconds[: 2 + settings.repeats], clock.seconds[2 + settings.repeats :]
    timing = Timing(tuple(seconds / settings.batches for seconds in first[2:]))
    rate, epoch = settings.rows[0] / timing.median, timing.median * settings.batches
    start, round_start = max(0.0, sum(first[:2]) - 2 * epoch), max(0.0, sum(later) - 2 * epoch)
    values = {
        "examples/s": rate,
        "MB at the peak": device.peak() / MB,
        "s that the first fit starts slower": start,
        "s that the next fit starts slower": round_start,
    }
    row = Row(f"lnsub fit: {name}, {settings.rows[0]} examples", timing, values=values)
    return [row], {"examples/s": rate, "start": start, "round start": round_start}
