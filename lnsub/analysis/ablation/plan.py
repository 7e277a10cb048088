"""The measurements of one `lnsub ablate`: which there are to be made, and their records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lnsub.analysis.ablation.removal import What
from lnsub.common.bounds import Count, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.locks import claimed
from lnsub.data.mixture import parts_of
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import ABLATION, Record, read
from lnsub.runs.settings import keep_settings
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.finding import FoundTicket
from lnsub.tickets.ticket import Ticket
from lnsub.training.config import RunConfig

Fill = Literal["zero", "mean"]
"""What a removed weight gives."""


@dataclass(frozen=True)
class Settings:
    """How an ablation is measured.

    Args:
        remove: what of each ticket is taken away, see :func:`lnsub.analysis.ablation.removal.removal_of`.
        fill: what a removed weight gives: ``zero``, or its ``mean`` over a sample, see
            :mod:`lnsub.analysis.ablation.filling`.
        draws: random removals beside each ticket's.
        examples: measure on so many rows of each language's split, of running text blocks; None: all.
        sample: rows of the train split, of all languages together, that means are taken over.
        split: the split that is measured on.

    Raises:
        UserError: a value is outside its range.
    """

    remove: What = "kept"
    fill: Fill = "zero"
    draws: int = 5
    examples: Count | None = None
    sample: Count = 256
    split: Literal["validation", "test"] = "validation"

    def __post_init__(self) -> None:
        check_numbers(hints_of(Settings), vars(self))
        if not 0 <= self.draws <= 10_000:
            raise UserError(f"draws is {self.draws}: it must be between 0 and 10000.")
        for name, kind in (("remove", What), ("fill", Fill)):
            if getattr(self, name) not in get_args(kind):
                raise UserError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(get_args(kind))}.")


@dataclass(frozen=True)
class Step:
    """One removal, and the languages that are still to be measured without it.

    Attributes:
        found: the ticket; None for the dense model.
        draw: the number of the random draw in its place; None for the ticket's own.
        languages: the languages.
    """

    found: FoundTicket | None
    draw: int | None
    languages: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a progress display calls it."""
        if self.found is None:
            return "dense"
        return self.found.name + ("" if self.draw is None else f", random {self.draw + 1}")


class Ablation:
    """The measurements of one `lnsub ablate`, each made once.

    Args:
        output: the folder of the records and of the settings, ``ablation.yaml``.
        config: the settings of the task, the model and the data; nothing is trained.
        tickets: from :func:`lnsub.tickets.finding.find_tickets`.
        languages: those measured on.
        settings: how.
        checkpoint: the weights of a fine-tuned model; None: those of theta_0.
        references: tickets that departures are from; none: theta_0's own magnitude masks.

    Raises:
        UserError: a task that has to be fine-tuned has no checkpoint; see also the arguments.
    """

    def __init__(
        self,
        output: Path,
        config: RunConfig,
        tickets: Sequence[FoundTicket],
        languages: Sequence[str],
        settings: Settings | None = None,
        *,
        checkpoint: str | None = None,
        references: Sequence[Ticket] = (),
    ) -> None:
        self.settings = settings or Settings()
        self.languages = tuple(dict.fromkeys(languages))
        if not self.languages:
            raise UserError("Name at least one language: --languages fr,ur.")
        if config.model["ticket"] is not None:
            raise UserError("The configuration has a model.ticket; the tickets are named by --tickets: take it out.")
        self.output = output
        self.tickets = list(tickets)
        self.config = _on_one_device(config, self.settings.examples)
        self.checkpoint = checkpoint
        self.references = list(references)
        task = self.config.data_module(self.languages[0]).task
        if task.labels and checkpoint is None:
            raise UserError(
                f"{task.title} has a head that theta_0 lacks: name a fine-tuned model with --checkpoint "
                "<run folder>/checkpoints/last.ckpt."
            )
        self.task = task
        self._metrics = frozenset(task.complete())

    # What is there and what is not -----------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """The records so far of these tickets and settings, the dense model's first."""
        chosen = {found.checksum for found in self.tickets} | {None}
        return [
            record
            for record in read(self.results)
            if record.kind == ABLATION
            and record.ticket in chosen
            and record.target in self.languages
            and record.split == self.settings.split
            and (record.removed == "none" or self.settings.remove in (record.removed, record.drawn_for))
            and (record.removed == "none" or record.fill == self.settings.fill)
            and (record.draw is None or record.draw < self.settings.draws)
        ]

    def steps(self) -> list[Step]:
        """What is still to be measured."""
        done: dict[tuple[str | None, int | None, str], set[str]] = {}
        for record in self.records():
            done.setdefault((record.ticket, record.draw, record.target), set()).add(record.metric)
        found: list[Step] = []
        draws = (None, *range(self.settings.draws))
        for ticket, draw in [(None, None), *((ticket, draw) for ticket in self.tickets for draw in draws)]:
            checksum = ticket.checksum if ticket else None
            missing = [t for t in self.languages if not self._metrics <= done.get((checksum, draw, t), set())]
            if missing:
                found.append(Step(ticket, draw, tuple(missing)))
        return found

    @property
    def results(self) -> Path:
        """The file of the records."""
        return RunFolder(self.output).results

    # Measuring -------------------------------------------------------------------------------------------------------

    def run(self, after: Callable[[Step, str, dict[str, float]], None] = lambda *_: None) -> None:
        """Measures what is missing; records are appended language by language.

        Args:
            after: called after each measurement with the step, the language and the metrics.

        Raises:
            UserError: the folder is in use, or holds measurements with other settings; a ticket or the data cannot be
                used.
        """
        with claimed(self.output) as ours:
            if not ours:
                raise UserError(f"{self.output} is in use by another process: wait, or choose another --output.")
            keep_settings(self.output / "ablation.yaml", self._shared_settings())
            if self.settings.remove == "departure":
                named = sorted(reference.checksum for reference in self.references)
                keep_settings(self.output / "departure.yaml", {"inherited": named or None})
            if self.settings.fill == "mean":
                pooled = {"sample": self.settings.sample, "languages": sorted(self.languages)}
                keep_settings(self.output / "mean.yaml", pooled)
            if not (steps := self.steps()):
                return
            # Here, as reading records needs none of it.
            from lnsub.analysis.ablation.measuring import Measuring

            Measuring(self).measure(steps, after)

    def _shared_settings(self) -> dict[str, Any]:
        settings = self.config.settings()
        del settings["data"]["init_args"]["language"]
        kept = {key: value for key, value in settings.items() if key not in {"output", "wandb"}}
        own = {"examples": self.settings.examples, "checkpoint": self.checkpoint}
        return {**kept, "ablation": own}

    def data(self, language: str) -> LanguageDataModule:
        """The data of one language."""
        return self.config.data_module(language)

    def pooled(self) -> LanguageDataModule:
        """The data of all languages together, of which the train split is the sample that means are taken over."""
        parts = list(dict.fromkeys(part for language in self.languages for part in parts_of(language)))
        limit = _limit(self.config, "train")
        rows = max(self.settings.sample, len(parts))
        return self.config.changed({f"data.init_args.{limit}": rows}).data_module("+".join(parts))


def _on_one_device(config: RunConfig, examples: int | None) -> RunConfig:
    """The settings of one process that measures and trains nothing."""
    changes = {"trainer.devices": 1, "trainer.num_nodes": 1, "trainer.strategy": "auto", "trainer.callbacks": None}
    changes |= {"trainer.logger": False, "model.compile": None}
    if examples is not None:
        changes[f"data.init_args.{_limit(config, 'eval')}"] = examples
    return config.changed(changes)


def _limit(config: RunConfig, split: str) -> str:
    """The setting that limits a split: that of blocks for running text, which gives every language as much of it."""
    blocks = f"max_{split}_blocks"
    return blocks if blocks in config.data["init_args"] else f"max_{split}_examples"
