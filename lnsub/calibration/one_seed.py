"""The tickets of one calibration seed: the model is loaded once, and each language's sample read once."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lnsub.calibration.activations import ActivationCounts
from lnsub.calibration.lape import language_neurons
from lnsub.calibration.masks import Packed, packed_masks
from lnsub.calibration.passes import Recorder, read_by_layer, read_whole
from lnsub.calibration.progress import SampleProgress
from lnsub.calibration.settings import FORWARD, LAPE, SAMPLED, Calibration
from lnsub.models.prunable import input_axes
from lnsub.models.unit_maps import units_of
from lnsub.pruning.scores import SCORES, ScoreInputs
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.training.collector import Collector, SampleSums
from lnsub.training.layer_sums import LayerSums
from lnsub.training.module import SubnetModule
from lnsub.training.samples import SampleBatches


@dataclass(frozen=True)
class Read:
    """What reading a sample, or several, took.

    Attributes:
        examples: rows.
        tokens: tokens, without padding.
        seconds: time, without making masks.
    """

    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Read") -> "Read":
        return Read(self.examples + other.examples, self.tokens + other.tokens, self.seconds + other.seconds)

    def __str__(self) -> str:
        if not self.tokens:
            return "no sample"
        rate = self.tokens / max(self.seconds, 1e-9)
        return f"{self.examples:,} examples, {self.tokens:,} tokens, {rate:,.0f} tokens a second"


class OneSeed:
    """Makes the tickets of one calibration seed.

    Args:
        calibration: which tickets.
        module: theta_0, made with this seed.
        data: makes the data module of a language.
        device: where the model computes; the module is moved there, unless it is taken layer by layer.
        progress: shows the samples.

    Attributes:
        read: what reading all samples so far took.
    """

    def __init__(
        self,
        calibration: Calibration,
        module: SubnetModule,
        data: Callable[[str], LanguageDataModule],
        device: torch.device,
        progress: SampleProgress,
    ) -> None:
        self._given = calibration
        self._module = module.eval()
        self._data = data
        self._device = device
        self._progress = progress
        module.model.config.use_cache = False  # a decoder would keep its keys and values
        if not calibration.layer_by_layer:
            module.to(device)
        self._units = units_of(module.model, calibration.chosen["granularity"])
        self._weights = {name: weight.detach() for name, weight in module.subnet.weights.items()}
        self.read = Read()

    def tickets(self, missing: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, list[Ticket], Read]]:
        """Reads the samples that are needed, and makes tickets.

        Args:
            missing: the sparsities to make, by language; the pool is one of them.

        Yields:
            A language, its tickets, and what reading its sample took.
        """
        for source, masks, read in (self._lape if self._given.score == LAPE else self._scored)(missing):
            yield source, [self._ticket(source, sparsity, packed, read) for sparsity, packed in masks.items()], read

    def _scored(self, missing: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, dict[float, Packed], Read]]:
        pool = self._given.pool if self._given.pool in missing else None
        pooled: SampleSums | None = None
        for language in self._given.read_for(missing):
            self._progress.start(f"{self._given.score} · {language} seed{self._module.seed}")
            sums, read = self._sums(language)
            if pool and sums is not None:
                pooled = sums if pooled is None else pooled + sums
            if language in missing:
                yield language, self._masks(sums, missing[language]), read
            self._progress.finish(str(read))
        if pool:
            yield pool, self._masks(pooled, missing[pool]), self.read

    def _sums(self, language: str) -> tuple[SampleSums | None, Read]:
        """What a score is computed from; None for one that reads no data."""
        score = self._given.score
        if score not in SAMPLED:
            return None, Read()
        needs = SCORES[score].needs
        if score in FORWARD:
            # Stand-ins of the weights' shapes, on the device whatever holds the weights.
            like = {name: torch.zeros((), device=self._device).expand(w.shape) for name, w in self._weights.items()}
            recorder = LayerSums(self._module.model, like, needs)
            read = self._pass(language, recorder)
            none = torch.zeros((), dtype=torch.int64)
            return SampleSums(read.examples, none, {}, {}, recorder.inputs, recorder.tokens), read
        started, batches = time.monotonic(), self._batches(language)
        labels = self._given.chosen.get("labels", "observed")
        self._module.zero_grad(set_to_none=True)
        sums = Collector(score, needs, self._module, batches, labels=labels, progress=self._progress.read).collect()
        self._module.zero_grad(set_to_none=True)
        return sums, self._noted(batches, started)

    def _pass(self, language: str, recorder: Recorder) -> Read:
        """Passes a language's sample through the model, for what a recorder sums up."""
        started, batches = time.monotonic(), self._batches(language)
        passing = read_by_layer if self._given.layer_by_layer else read_whole
        passing(self._module, batches, recorder, self._device, self._progress.read)
        return self._noted(batches, started)

    def _batches(self, language: str) -> SampleBatches:
        return SampleBatches(self._data(language), self._module.seed, self._given.examples)

    def _noted(self, batches: SampleBatches, started: float) -> Read:
        read = Read(batches.examples, batches.tokens, time.monotonic() - started)
        self.read += read
        return read

    def _masks(self, sums: SampleSums | None, sparsities: Sequence[float]) -> dict[float, Packed]:
        means: dict[str, Any] = {} if sums is None else sums.means()
        axes = input_axes(self._module.model)
        inputs = ScoreInputs(weights=self._weights, inputs=axes, seed=self._module.seed, **means)
        scope = self._given.chosen["scope"]
        return packed_masks(self._given.score, inputs, sparsities, scope, self._units, self._device)

    def _lape(self, missing: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, dict[float, Packed], Read]]:
        assert self._units is not None
        groups = self._units.groups
        probabilities, reads = [], []
        for language in self._given.read_for(missing):
            self._progress.start(f"{LAPE} · {language} seed{self._module.seed}")
            counts = ActivationCounts(self._module.model, self._units, self._device)
            reads.append(self._pass(language, counts))
            found = counts.probabilities()
            probabilities.append(torch.cat([found[group.name] for group in groups]))
            self._progress.finish(str(reads[-1]))
        chosen = language_neurons(torch.stack(probabilities), self._given.rate, self._given.quantile)
        shapes = {name: tuple(self._weights[name].shape) for name in self._units.parameters}
        for language, neurons, read in zip(self._given.languages, chosen, reads, strict=True):
            self._progress.say(
                f"{language} seed{self._module.seed} · {int(neurons.sum()):,} of {len(neurons):,} neurons"
                + ("" if neurons.any() else ": its ticket keeps nothing")
            )
            parts = zip(groups, neurons.split([group.count for group in groups]), strict=True)
            bits = self._units.expanded({group.name: part.numpy() for group, part in parts}, shapes)
            packed = {name: np.packbits(mask, axis=None, bitorder="little") for name, mask in bits.items()}
            if language in missing:
                yield language, dict.fromkeys(missing[language], packed), read

    def _ticket(self, source: str, sparsity: float, packed: Packed, read: Read) -> Ticket:
        chosen = self._given.chosen
        sample = {"examples": read.examples, "tokens": read.tokens}
        sample |= {key: chosen[key] for key in ("labels", "languages", "rate", "quantile") if key in chosen}
        provenance = Provenance(
            base_model=self._module.base_model,
            base_fingerprint=self._module.fingerprint,
            task=self._module.task.name,
            language=source,
            seed=self._module.seed,
            round=1,
            sparsity=sparsity,
            score=chosen["score"],
            scope=chosen["scope"],
            schedule="one-shot",
            granularity=chosen["granularity"],
            units="" if self._units is None else self._units.to_json(),
            calibration=json.dumps(sample) if read.tokens else "",
        )
        return Ticket(packed, {name: tuple(self._weights[name].shape) for name in packed}, provenance)
