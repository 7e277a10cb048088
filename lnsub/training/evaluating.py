"""Validation and test: the task's metrics, and what it counts of each example, over all ranks."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection

from lnsub.runs.examples import Examples
from lnsub.tasks.task import Task
from lnsub.training.ranks import gathered
from lnsub.training.validation import Validation


class Evaluating(LightningModule):
    """A Lightning module that is evaluated by its task.

    Counts stay on the device until a pass ends.

    Attributes:
        validation: what the last validation found.
        examples: what the task counted of each example in the last whole pass, the same on all ranks; None before, and
            where it counts nothing.
    """

    task: Task
    val_metrics: MetricCollection
    test_metrics: MetricCollection
    validation: Validation | None = None
    examples: Examples | None = None
    _counts: list[tuple[Tensor, Tensor]]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Adds one batch to the validation metrics; returns what the task counts of each example."""
        return self._evaluate(self.val_metrics, batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Adds one batch to the test metrics; returns what the task counts of each example."""
        return self._evaluate(self.test_metrics, batch)

    def _evaluate(self, metrics: MetricCollection, batch: dict[str, Tensor]) -> Tensor | None:
        logits = self._infer(batch)
        metrics.update(logits, batch["labels"])
        return self.task.counts(logits, batch)

    def _infer(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits in inference mode, which Lightning does not use for validation during `fit` or under gloo.

        The metrics stay outside because their sums are sent between processes. A sharded model stays outside because
        its gathered parameters are reused in training.
        """
        with nullcontext() if self.device_mesh is not None else torch.inference_mode():
            logits: Tensor = self(batch)
            return logits

    def on_validation_epoch_start(self) -> None:
        """Forgets the last pass."""
        self._counts, self.examples = [], None

    def on_test_epoch_start(self) -> None:
        """Forgets the last pass."""
        self._counts, self.examples = [], None

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keeps a batch's counts."""
        self._keep(outputs, batch)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keeps a batch's counts."""
        self._keep(outputs, batch)

    def _keep(self, counts: Tensor | None, batch: dict[str, Tensor]) -> None:
        if counts is not None:
            self._counts.append((batch["index"], counts))

    def on_validation_epoch_end(self) -> None:
        """Logs the validation metrics as ``val_<name>``, over all ranks."""
        self._log_and_reset("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics as ``test_<name>``, over all ranks."""
        self._log_and_reset("test", self.test_metrics)

    def _log_and_reset(self, prefix: str, metrics: MetricCollection) -> None:
        # Equal on all ranks: torchmetrics reduces the states of all ranks before it computes.
        found = {f"{prefix}_{name}{self._suffix}": value for name, value in metrics.compute().items()}
        self.log_dict(found, rank_zero_only=False)
        metrics.reset()
        if self.task.counted and not self.trainer.sanity_checking:
            self.examples = self._gathered()

    def _gathered(self) -> Examples | None:
        """The counts of all ranks, ordered by the examples' numbers. A collective operation."""
        here = None
        if self._counts:  # where there are more ranks than batches, some have none
            here = tuple(torch.cat(part).cpu().numpy() for part in zip(*self._counts, strict=True))
        self._counts = []
        parts = [part for part in gathered(self.trainer, here) if part is not None]
        if not parts:
            return None
        index, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(index, kind="stable")
        columns = dict(zip(self.task.counted, counts[order].T.copy(), strict=True))
        return Examples(index[order], columns)

    def on_validation_end(self) -> None:
        """Keeps the metrics, so that a fit that ends with a validation needs no further one."""
        if not self.trainer.sanity_checking:
            logged = self.trainer.callback_metrics.items()
            metrics = {
                name.removeprefix("val_").removesuffix(self._suffix): float(value)
                for name, value in logged
                if name.startswith("val_")
            }
            self.validation = Validation(self.trainer.datamodule, self.trainer.global_step, metrics, self.examples)

    @property
    def _suffix(self) -> str:
        return getattr(self.trainer.datamodule, "metric_suffix", "")
