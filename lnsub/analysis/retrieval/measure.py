"""Sentence retrieval: how well each layer of a sub-network finds a sentence's translation among all others.

A measure of language-neutrality without any task: if translations lie closest to each other, the states say what a
sentence means and not in which language. A ticket is applied to theta_0 and nothing is trained, so that what is
measured is the sub-network itself. Scores are margin-based, see :mod:`lnsub.analysis.retrieval.margin`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lnsub.analysis.overlap.jaccard import labels
from lnsub.analysis.retrieval.embedding import POOLINGS, SentenceEncoder
from lnsub.analysis.retrieval.margin import MARGINS, accuracy, best_matches
from lnsub.analysis.retrieval.sentence_pairs import Pairs
from lnsub.common.errors import UserError
from lnsub.models.apply import Fit
from lnsub.runs.records import FILE_NAME, Record, append, read, records_of
from lnsub.tickets.ticket import Ticket

MEMORY = 2**32
"""Bytes of embeddings held at once. If those of all layers take more, the model runs again for each part of them."""


@dataclass(frozen=True)
class Settings:
    """How retrieval is measured.

    Args:
        layers: numbers of hidden states, 0 for the embeddings; None takes all.
        pooling: ``mean`` over all tokens but padding, or the ``first`` token's state.
        margin: one of :data:`lnsub.analysis.retrieval.margin.MARGINS`.
        k: nearest neighbours that the margin looks at, in either direction.
        batch_tokens: the most tokens in a padded batch.

    Raises:
        UserError: a value is outside its range.
    """

    layers: tuple[int, ...] | None = None
    pooling: Literal["mean", "first"] = "mean"
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    k: int = 4
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, value, known in (("pooling", self.pooling, POOLINGS), ("margin", self.margin, tuple(MARGINS))):
            if value not in known:
                raise UserError(f"{name} is {value!r}: it must be one of {', '.join(known)}.")
        for name, number in (("k", self.k), ("batch_tokens", self.batch_tokens)):
            if number < 1:
                raise UserError(f"{name} is {number}: it must be at least 1.")
        if self.layers is not None and not self.layers:
            raise UserError("No layer is chosen: name at least one, or all.")

    @property
    def name(self) -> str:
        """What records call these settings: ``mean/ratio-4``."""
        return f"{self.pooling}/{self.margin}" + ("" if self.margin == "absolute" else f"-{self.k}")


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a ticket, or the dense model (None), on one language's pairs."""

    label: str
    ticket: Ticket | None
    pairs: Pairs


@dataclass(frozen=True)
class LayerAccuracy:
    """Shares of sentences whose translation scores highest, from English and to English, by the states of a layer."""

    layer: int
    en_to_other: float
    other_to_en: float

    @property
    def accuracy(self) -> float:
        """The mean of both directions."""
        return (self.en_to_other + self.other_to_en) / 2


@dataclass(frozen=True)
class Retrieved:
    """What was measured in one cell.

    Attributes:
        cell: the cell.
        base_model: the base model's name.
        settings: how it was measured.
        fit: which of the ticket's parameters the model has; None where dense.
        layers: accuracy by layer, in the order asked for.
        wall_s: seconds it took.
    """

    cell: Cell
    base_model: str
    settings: Settings
    fit: Fit | None
    layers: tuple[LayerAccuracy, ...]
    wall_s: float

    @property
    def best(self) -> LayerAccuracy:
        """The layer with the highest accuracy, the first of several."""
        return max(self.layers, key=lambda layer: layer.accuracy)

    def rows(self) -> list[dict[str, Any]]:
        """The measurements as rows of a table.

        Returns:
            One row a layer: ``ticket`` (its label, or ``dense``), ``source`` (its language, None where dense),
            ``target``, ``sparsity``, ``layer``, ``en_to_other``, ``other_to_en``, ``accuracy`` (their mean),
            ``chance`` (1 / pairs), ``pairs``, ``empty`` and ``repeated`` (pairs left out), ``pooling``, ``margin``,
            ``k``, ``matrices`` (that the mask was applied to) and ``left_out`` (parameters that only one of ticket
            and model has, by ``;``).
        """
        pairs, found = self.cell.pairs, self.cell.ticket.provenance if self.cell.ticket else None
        shared = {
            "ticket": self.cell.label,
            "source": found.language if found else None,
            "target": pairs.language,
            "sparsity": found.sparsity if found else 0.0,
        }
        settings = {
            "chance": 1 / len(pairs),
            "pairs": len(pairs),
            "empty": pairs.empty,
            "repeated": pairs.repeated,
            "pooling": self.settings.pooling,
            "margin": self.settings.margin,
            "k": None if self.settings.margin == "absolute" else self.settings.k,
            "matrices": len(self.fit.shared) if self.fit else None,
            "left_out": ";".join(self.fit.only_ticket + self.fit.only_model) if self.fit else "",
        }
        return [shared | asdict(layer) | {"accuracy": layer.accuracy} | settings for layer in self.layers]

    def records(self) -> list[Record]:
        """The measurements as records of the kind ``retrieval``: three a layer.

        The metric is ``accuracy``, ``en_to_other`` or ``other_to_en``, then the settings, as values of different
        settings do not compare: ``accuracy/mean/ratio-4``.
        """
        ticket = self.cell.ticket
        found = ticket.provenance if ticket else None
        return [
            record
            for layer in self.layers
            for record in records_of(
                {
                    f"{direction}/{self.settings.name}": getattr(layer, direction)
                    for direction in ("accuracy", "en_to_other", "other_to_en")
                },
                kind="retrieval",
                task="retrieval",
                model=self.base_model,
                source=found.language if found else None,
                target=self.cell.pairs.language,
                sparsity=found.sparsity if found else 0.0,
                score=found.score if found else None,
                init="pretrained",
                seed=found.seed if found else 0,
                round=None,
                split="pairs",
                n=len(self.cell.pairs),
                wall_s=round(self.wall_s, 3),
                ticket=ticket.checksum if ticket else None,
                layer=layer.layer,
            )
        ]


class Retrieval:
    """Retrieval of every language's pairs by the dense model and by each ticket, one :class:`Cell` at a time.

    Constructing it checks everything, before anything is measured::

        retrieval = Retrieval("google-bert/bert-base-multilingual-cased", [read_pairs(Path("fr.parquet"))])
        for cell in retrieval.cells:
            print(retrieval.measure(cell).rows())

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint: theta_0.
        pairs: the pairs of each language.
        tickets: tickets that were found in this base model.
        settings: how to measure.
        device: where to compute; see :class:`lnsub.analysis.retrieval.embedding.SentenceEncoder`.

    Attributes:
        cells: the dense model's and then each ticket's, each over all languages.
        encoder: the model.

    Raises:
        UserError: a language has no more than ``k`` pairs, the base model cannot be used, a ticket is another base
            model's, or there is no such layer.
    """

    def __init__(
        self,
        base_model: str,
        pairs: Sequence[Pairs],
        tickets: Sequence[Ticket] = (),
        settings: Settings | None = None,
        device: str = "auto",
    ) -> None:
        self.settings = settings or Settings()
        for one in pairs:
            if self.settings.margin != "absolute" and self.settings.k >= len(one):
                raise UserError(
                    f"k is {self.settings.k}, but '{one.language}' has {len(one)} sentence pairs, and the "
                    f"{self.settings.margin} margin needs more pairs than neighbours: give more pairs or a smaller k."
                )
        self.encoder = SentenceEncoder(base_model, device)
        self._fits = {id(ticket): self.encoder.check(ticket) for ticket in tickets}
        last = self.encoder.layers
        self.layers = tuple(range(last + 1)) if self.settings.layers is None else self.settings.layers
        for layer in self.layers:
            if not 0 <= layer <= last:
                raise UserError(f"There is no layer {layer}: {base_model} has 0 (the embeddings) to {last}.")
        self.cells = [
            Cell(label, ticket, one)
            for label, ticket in zip(["dense", *labels(tickets)], [None, *tickets], strict=True)
            for one in pairs
        ]
        self._tokens = {
            one.language: (self.encoder.tokenise(one.english), self.encoder.tokenise(one.other)) for one in pairs
        }
        self._ticket: Ticket | None = None

    def measure(self, cell: Cell) -> Retrieved:
        """Measures one of :attr:`cells`.

        Raises:
            UserError: the model gives states that are not finite.
        """
        start = time.perf_counter()
        if cell.ticket is not self._ticket:
            self.encoder.apply_ticket(cell.ticket)
            self._ticket = cell.ticket
        together = max(1, MEMORY // (2 * len(cell.pairs) * self.encoder.hidden * 4))
        layers = tuple(
            found
            for first in range(0, len(self.layers), together)
            for found in self._accuracies(cell, self.layers[first : first + together])
        )
        fit = self._fits[id(cell.ticket)] if cell.ticket else None
        wall_s = time.perf_counter() - start
        return Retrieved(cell, self.encoder.base_model, self.settings, fit, layers, wall_s)

    def _accuracies(self, cell: Cell, layers: Sequence[int]) -> Iterator[LayerAccuracy]:
        english, other = (
            self.encoder.embed(tokens, layers, self.settings.pooling, self.settings.batch_tokens)
            for tokens in self._tokens[cell.pairs.language]
        )
        for place, layer in enumerate(layers):
            x, y = self._finite(english[place], cell, layer), self._finite(other[place], cell, layer)
            matches = best_matches(x, y, margin=self.settings.margin, k=self.settings.k)
            yield LayerAccuracy(layer, accuracy(matches.forward), accuracy(matches.backward))

    def _finite(self, states: Tensor, cell: Cell, layer: int) -> Tensor:
        if not torch.isfinite(states).all():
            raise UserError(
                f"The states of layer {layer} of {self.encoder.base_model} ({cell.label}) are not finite numbers: "
                "the checkpoint is damaged."
            )
        return states.to(self.encoder.device)


def record(folder: Path, retrieved: Retrieved) -> None:
    """Appends a cell's records to the folder's ``results.jsonl``, except for those there with the same value."""
    path = folder / FILE_NAME

    def measured(found: Record) -> Record:
        return replace(found, wall_s=0.0, lnsub_version="", time="")

    there = {measured(found) for found in read(path)}
    append(path, [new for new in retrieved.records() if measured(new) not in there])
