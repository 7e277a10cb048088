"""`lnsub prune`: a ticket of each language, seed and sparsity, from theta_0 and a sample of the language's text.

The model is loaded once for each seed, and each sample is read once, for all sparsities. A pool's sums are those of its
languages added up. Tickets that are there are not made again.
"""

import dataclasses
import gc
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from lnsub.calibration.one_seed import OneSeed, Read
from lnsub.calibration.progress import SampleProgress
from lnsub.calibration.settings import Calibration
from lnsub.common.errors import UserError
from lnsub.common.locks import claimed
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record
from lnsub.runs.settings import keep_settings
from lnsub.tasks.task import LanguageDataModule, Task
from lnsub.tickets.ticket import Ticket
from lnsub.training.config import RunConfig
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule

SETTINGS_NAME = "prune.yaml"
"""The file in a run's folder that says how its tickets were made, beside ``config.yaml`` for the model and the data."""


class Pruning:
    """The tickets of one `lnsub prune`.

    Args:
        output: the tree of runs.
        config: the model and the data; its language and seed are replaced, and IMP is removed.
        calibration: which tickets.

    Raises:
        UserError: the configuration is not of theta_0; or a folder holds something else.
    """

    def __init__(self, output: Path, config: RunConfig, calibration: Calibration) -> None:
        for name, usual in (("ticket", None), ("init", "pretrained")):
            if config.model[name] != usual:
                raise UserError(f"`lnsub prune` prunes the pre-trained weights: leave model.{name} out.")
        if apart := next(iter(config.condition.settings()), None):
            raise UserError(f"`lnsub prune` draws its samples by the seed alone: leave {apart} out.")
        callbacks = config.trainer["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        others = [c for c in callbacks if not issubclass(pkgutil.resolve_name(c["class_path"]), IMPCallback)]
        self.config = dataclasses.replace(config, trainer={**config.trainer, "callbacks": others}, output=str(output))
        self.calibration = calibration
        self.device = _device(config.trainer["accelerator"])
        self.task: Task = config.data_module().task
        for seed in calibration.seeds:
            for source in calibration.sources:
                self._check(self.folder(source, seed))

    def folder(self, source: str, seed: int) -> RunFolder:
        """The folder of a language's tickets, or the pool's."""
        return RunFolder.of(self.config.output, self.task.name, source, seed)

    def missing(self, source: str, seed: int) -> list[float]:
        """The sparsities that lack a whole ticket."""
        found = []
        for sparsity in self.calibration.levels:
            try:
                Ticket.load(self.folder(source, seed).ticket(sparsity))
            except UserError:
                found.append(sparsity)
        return found

    def run(self, console: Console | None = None) -> Read:
        """Makes the tickets that are missing; returns what reading their samples took.

        Raises:
            UserError: a language's data, the model or its scores cannot be used.
        """
        wanted = {
            seed: {source: levels for source in self.calibration.sources if (levels := self.missing(source, seed))}
            for seed in self.calibration.seeds
        }
        samples = {seed: self.calibration.read_for(sources) for seed, sources in wanted.items()}
        for language in {language for languages in samples.values() for language in languages}:
            self._data(language, self.calibration.seeds[0]).check()
        progress = SampleProgress(sum(map(len, samples.values())), console)
        total = Read()
        try:
            for seed, sources in wanted.items():
                if sources:
                    total += self._run(seed, sources, progress)
        finally:
            progress.close()
        return total

    def _run(self, seed: int, missing: dict[str, list[float]], progress: SampleProgress) -> Read:
        """Makes the tickets of one seed; its model is let go of before the next one's is loaded."""
        module = SubnetModule(self.task, seed=seed, **self.config.model | {"compile": None})
        one = OneSeed(self.calibration, module, lambda language: self._data(language, seed), self.device, progress)
        for source, tickets, read in one.tickets(missing):
            self._save(source, seed, tickets, read)
        read = one.read
        del module, one
        gc.collect()
        return read

    def _data(self, source: str, seed: int) -> LanguageDataModule:
        return self._config(source, seed).data_module()

    def _config(self, source: str, seed: int) -> RunConfig:
        arguments = self.config.language_arguments(source)
        return dataclasses.replace(
            self.config,
            seed_everything=seed,
            data={**self.config.data, "init_args": self.config.data["init_args"] | arguments},
        )

    def _check(self, folder: RunFolder) -> None:
        """Refuses a folder with another run's results, before any work."""
        settings = folder.path / SETTINGS_NAME
        if settings.exists():
            keep_settings(settings, self.calibration.chosen)
        elif folder.started or any((folder.path / "tickets").glob("*.safetensors")):
            raise UserError(f"{folder.path} holds a run of `lnsub fit`: choose another --output.")

    def _save(self, source: str, seed: int, tickets: Sequence[Ticket], read: Read) -> None:
        """Writes tickets and their records to the folder of their language and seed."""
        folder = self.folder(source, seed)
        with claimed(folder.path, wait=True):
            self._check(folder)
            keep_settings(folder.config, self._config(source, seed).settings())
            keep_settings(folder.path / SETTINGS_NAME, self.calibration.chosen)
            for ticket in tickets:
                ticket.save(folder.ticket(ticket.provenance.sparsity))
            folder.record([_record(ticket, read) for ticket in tickets])


def _record(ticket: Ticket, read: Read) -> Record:
    p = ticket.provenance
    return Record(
        kind="prune",
        task=p.task,
        model=p.base_model,
        source=p.language,
        target=p.language,
        sparsity=p.sparsity,
        score=p.ranked_by,
        init="pretrained",
        seed=p.seed,
        round=None,
        split="train",
        metric="tokens",
        value=float(read.tokens),
        n=read.examples,
        wall_s=read.seconds,
        ticket=ticket.checksum,
    )


def _device(accelerator: object) -> torch.device:
    """Where models compute: a GPU where there is one, unless the configuration says the CPU."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
