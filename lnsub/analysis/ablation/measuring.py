"""Measures every language without what tickets name: one pass over its data for each removal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lnsub.analysis.ablation.filling import InputMeans, filled
from lnsub.analysis.ablation.plan import Ablation, Step
from lnsub.analysis.ablation.removal import Removal, reference_for, removal_of, source_of
from lnsub.common.errors import UserError
from lnsub.data.batching import BatchRows
from lnsub.models.inherited import Theta0, inherited_masks
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import ABLATION, append, records_of
from lnsub.tickets.ticket import Ticket
from lnsub.training.checkpoint_files import load_weights
from lnsub.training.setup import build

_PER_PASS = 8  # rows of the sample that means are taken over


class Measuring:
    """The model of an ablation on its device.

    Args:
        ablation: what is measured, with which settings.

    Raises:
        UserError: the model, the checkpoint, a ticket or the data cannot be used.
    """

    def __init__(self, ablation: Ablation) -> None:
        self._ablation = ablation
        self._settings = ablation.settings
        self._run = build(ablation.config, folder=RunFolder(ablation.output), fitting=False, progress=False)
        self._module = self._run.module
        if ablation.checkpoint is not None:
            load_weights(ablation.checkpoint, self._module, "--checkpoint")
        self._base_model = self._module.base_model
        for found in ablation.tickets:
            found.load().check_base(self._module.fingerprint, self._base_model)
        # Opened before anything is measured, so that bad data is reported at once.
        self._data = {language: ablation.data(language) for language in ablation.languages}
        for language, data in self._data.items():
            if self._settings.split not in data.splits() and self._settings.split == "test":
                raise UserError(f"The data has no test split in '{language}': measure on --split validation.")
            data.table(self._settings.split)
        loaders = "val_dataloader" if self._settings.split == "validation" else "test_dataloader"
        self._loaders = {language: getattr(data, loaders)() for language, data in self._data.items()}
        self._device = self._run.trainer.strategy.root_device
        self._module.to(self._device).eval()

    def measure(self, steps: Sequence[Step], after: Callable[[Step, str, dict[str, float]], None]) -> None:
        """Measures what steps ask for; see :meth:`Ablation.run`."""
        ticket: Ticket | None = None
        removal: Removal | None = None
        for step in steps:
            if step.found is not None and (ticket is None or step.found.checksum != ticket.checksum):
                ticket = step.found.load()
                removal = self._removal(ticket)
            chosen = removal if step.found is not None else None
            if chosen is not None and step.draw is not None:
                chosen = chosen.drawn(self._module.seed, step.draw)
            with self._without(chosen):
                for language in step.languages:
                    start = time.perf_counter()
                    metrics, things = self._evaluate(language)
                    facts = self._facts(step, ticket, chosen) | {
                        "target": language,
                        "n": len(self._data[language].table(self._settings.split)),
                        "wall_s": round(time.perf_counter() - start, 3),
                    }
                    made = records_of(metrics, **facts)
                    made = [replace(record, n=things.get(record.metric, record.n)) for record in made]
                    append(self._ablation.results, made)
                    after(step, language, metrics)

    def _removal(self, ticket: Ticket) -> Removal:
        reference = None
        if self._settings.remove == "departure":
            references = self._ablation.references or inherited_masks(self._theta_0, [ticket])
            reference = reference_for(ticket, references)
        return removal_of(ticket, self._settings.remove, self._module.subnet.shapes, reference)

    @cached_property
    def _theta_0(self) -> Theta0:
        return Theta0.load(self._base_model)

    @contextmanager
    def _without(self, removal: Removal | None) -> Iterator[None]:
        with ExitStack() as stack:
            if removal is not None:
                bits = removal.weights()
                if self._settings.fill == "mean":
                    stack.enter_context(filled(self._module.model, bits, self._means))
                stack.enter_context(self._module.subnet.removing(bits))
            yield

    @cached_property
    def _means(self) -> InputMeans:
        """The mean inputs of the whole model's layers."""
        means = InputMeans(self._module.model)
        loader = self._ablation.pooled().train_dataloader()
        with means.recording(), torch.inference_mode(), self._run.trainer.precision_plugin.forward_context():
            rows = np.argsort(-loader.sampler.lengths, kind="stable")  # of like length, which wastes least on padding
            for start in range(0, len(rows), _PER_PASS):
                batch = self._on_device(loader.dataset[BatchRows(0, rows[start : start + _PER_PASS])])
                means.start(batch)
                self._module(batch)
        return means

    def _evaluate(self, language: str) -> tuple[dict[str, float], dict[str, int]]:
        """Returns the metrics, and the number of things of those that are a share or a mean."""
        module, sums = self._module, torch.zeros((), dtype=torch.float64)
        with self._run.trainer.precision_plugin.forward_context():
            for number, batch in enumerate(self._loaders[language]):
                counts = module.validation_step(self._on_device(batch), number)
                sums = sums if counts is None else sums.to(counts.device) + counts.sum(0)
        found = {name: float(value) for name, value in module.val_metrics.compute().items()}
        module.val_metrics.reset()
        totals = dict(zip(module.task.counted, sums.flatten().tolist(), strict=False))
        return found, {metric: int(totals[column]) for metric, column in module.task.denominators.items()}

    def _on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self._device) for name, tensor in batch.items()}

    def _facts(self, step: Step, ticket: Ticket | None, removal: Removal | None) -> dict[str, Any]:
        """The fields that a step's records share."""
        settings = self._settings
        facts = {
            "kind": ABLATION,
            "task": self._ablation.task.name,
            "model": self._base_model,
            "init": self._module.init,
            "seed": self._module.seed,
            "round": None,
            "split": settings.split,
            "fill": settings.fill,
        }
        if ticket is None or removal is None:
            return facts | {
                "source": None,
                "sparsity": 0.0,
                "score": None,
                "ticket": None,
                "removed": "none",
                "units": 0,
                "fill": "zero",
            }
        p = ticket.provenance
        return facts | {
            "source": source_of(ticket),
            "sparsity": p.sparsity,
            "score": p.score,
            "ticket": ticket.checksum,
            "source_task": p.task,
            "source_seed": p.seed,
            "removed": settings.remove if step.draw is None else "random",
            "drawn_for": None if step.draw is None else settings.remove,
            "granularity": p.granularity,
            "units": removal.count,
            "draw": step.draw,
        }
