"""Sentence retrieval: how well each layer of a sub-network finds a sentence's translation among all others.

A measure of language-neutrality without any task: if translations lie closest to each other, the states say what a
sentence means and not in which language. A ticket is applied to theta_0 and nothing is trained, so that what is
measured is the sub-network itself. Scores are margin-based, see :mod:`lnsub.analysis.retrieval.margin`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lnsub.analysis.parallel.cells import Cell
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.analysis.parallel.states import ParallelStates, Pooling, Reading
from lnsub.analysis.retrieval.margin import MARGINS, accuracy, translation_ranks
from lnsub.common.bounds import Count, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.models.apply import Fit
from lnsub.runs.records import Record, records_of
from lnsub.tickets.ticket import Ticket


@dataclass(frozen=True)
class Settings:
    """How retrieval is measured.

    Args:
        layers: numbers of hidden states, 0 for the embeddings; None takes all.
        pooling: ``mean`` over all tokens but padding, or the ``first`` token's state.
        margin: one of :data:`lnsub.analysis.retrieval.margin.MARGINS`.
        neighbours: how many nearest neighbours the margin looks at, in either direction.
        top: a translation is found where it is among the first so many, for each of these numbers.
        batch_tokens: the most tokens in a padded batch.

    Raises:
        UserError: a value is outside its range.
    """

    layers: tuple[int, ...] | None = None
    pooling: Pooling = "mean"
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    neighbours: Count = 4
    top: tuple[int, ...] = (1,)
    batch_tokens: Count = 8192

    def __post_init__(self) -> None:
        if self.margin not in MARGINS:
            raise UserError(f"margin is {self.margin!r}: it must be one of {', '.join(MARGINS)}.")
        check_numbers(hints_of(Settings), vars(self))
        if not self.top:
            raise UserError("No number is named that a translation must be among the first of: name at least 1.")
        for top in self.top:
            check_numbers({"top": Count}, {"top": top})
        _ = self.reading  # checks the others

    @property
    def reading(self) -> Reading:
        """Which states are read."""
        return Reading(self.layers, self.pooling, self.batch_tokens)

    @property
    def name(self) -> str:
        """What records call these settings: ``mean/ratio-4``."""
        return f"{self.pooling}/{self.margin}" + ("" if self.margin == "absolute" else f"-{self.neighbours}")


@dataclass(frozen=True)
class LayerAccuracy:
    """Shares of sentences whose translation is found, by the states of a layer.

    Attributes:
        layer: the hidden state, 0 for the embeddings.
        top: a translation counts that is among the first so many of the other language.
        from_pivot: the share of the pivot's sentences (English, for most pairs) whose translation is found.
        to_pivot: the share of the other language's.
    """

    layer: int
    top: int
    from_pivot: float
    to_pivot: float

    @property
    def accuracy(self) -> float:
        """The mean of both directions."""
        return (self.from_pivot + self.to_pivot) / 2


@dataclass(frozen=True)
class Retrieved:
    """What was measured in one cell.

    Attributes:
        cell: the cell.
        base_model: the base model's name.
        settings: how it was measured.
        fit: which of the ticket's parameters the model has; None where dense.
        layers: accuracy by layer and, within a layer, by how many count, in the order asked for.
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
        """The layer with the highest accuracy by the first number that counts; the first of several."""
        return max((one for one in self.layers if one.top == self.settings.top[0]), key=lambda one: one.accuracy)

    def rows(self) -> list[dict[str, Any]]:
        """The measurements as rows of a table.

        Returns:
            One row a layer and number that counts: ``ticket`` (its label, or ``dense``), ``source`` (its language,
            None where dense), ``target``, ``pivot``, ``sparsity``, ``layer``, ``top``, ``from_pivot``, ``to_pivot``,
            ``accuracy`` (their mean), ``chance`` (top / pairs), ``pairs``, ``empty`` and ``repeated`` (pairs left
            out), ``pooling``, ``margin``, ``neighbours``, ``matrices`` (that the mask was applied to) and ``left_out``
            (parameters that only one of ticket and model has, by ``;``).
        """
        pairs = self.cell.pairs
        settings = {
            "pairs": len(pairs),
            "empty": pairs.empty,
            "repeated": pairs.repeated,
            "pooling": self.settings.pooling,
            "margin": self.settings.margin,
            "neighbours": None if self.settings.margin == "absolute" else self.settings.neighbours,
            "matrices": len(self.fit.shared) if self.fit else None,
            "left_out": ";".join(self.fit.only_ticket + self.fit.only_model) if self.fit else "",
        }
        return [
            self.cell.columns()
            | vars(one)
            | {"accuracy": one.accuracy, "chance": min(1.0, one.top / len(pairs))}
            | settings
            for one in self.layers
        ]

    def records(self) -> list[Record]:
        """The measurements as records of the kind ``retrieval``: three a layer and number that counts.

        The metric is ``accuracy``, ``from_pivot`` or ``to_pivot``, with ``@5`` where the first five count, and then
        the settings, as values of different settings do not compare: ``accuracy/mean/ratio-4``,
        ``accuracy@5/mean/ratio-4``.
        """
        return [
            record
            for one in self.layers
            for record in records_of(
                {
                    f"{name}{'' if one.top == 1 else f'@{one.top}'}/{self.settings.name}": getattr(one, name)
                    for name in ("accuracy", "from_pivot", "to_pivot")
                },
                kind="retrieval",
                task="retrieval",
                model=self.base_model,
                wall_s=round(self.wall_s, 3),
                layer=one.layer,
                **self.cell.facts(),
            )
        ]


class Retrieval:
    """Retrieval of every language's pairs by the dense model and by each ticket, one cell at a time.

    Constructing it checks everything, before anything is measured::

        retrieval = Retrieval("google-bert/bert-base-multilingual-cased", [read_pairs(Path("fr.parquet"))])
        for cell in retrieval.cells:
            print(retrieval.measure(cell).rows())

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint: theta_0.
        pairs: the pairs of each language.
        tickets: tickets that were found in this base model.
        settings: how to measure.
        device: where to compute; see :class:`lnsub.analysis.parallel.embedding.SentenceEncoder`.
        own_tickets: each language is embedded under its own ticket rather than both under the same.
        beside: further masks, such as inherited ones, under each of which both languages are embedded.

    Attributes:
        cells: see :class:`lnsub.analysis.parallel.states.ParallelStates`.
        layers: the layers that are measured.

    Raises:
        UserError: a language has no more pairs than the margin looks at or the largest number that counts; see also
            :class:`lnsub.analysis.parallel.states.ParallelStates`.
    """

    def __init__(
        self,
        base_model: str,
        pairs: Sequence[Pairs],
        tickets: Sequence[Ticket] = (),
        settings: Settings | None = None,
        device: str = "auto",
        own_tickets: bool = False,
        beside: Sequence[Ticket] = (),
    ) -> None:
        self.settings = settings or Settings()
        for one in pairs:
            if self.settings.margin != "absolute" and self.settings.neighbours >= len(one):
                raise UserError(
                    f"neighbours is {self.settings.neighbours}, but '{one.language}' has {len(one)} sentence pairs, "
                    f"and the {self.settings.margin} margin needs more pairs than neighbours: give more pairs or fewer "
                    "neighbours."
                )
            if max(self.settings.top) >= len(one):
                raise UserError(
                    f"top is {max(self.settings.top)}, but '{one.language}' has {len(one)} sentence pairs, among which "
                    "every translation would be found: give more pairs or a smaller number."
                )
        self._states = ParallelStates(base_model, pairs, tickets, own_tickets, beside, self.settings.reading, device)
        self.cells, self.layers = self._states.cells, self._states.layers

    def measure(self, cell: Cell, after_layer: Callable[[], None] = lambda: None) -> Retrieved:
        """Measures one of :attr:`cells`.

        Args:
            cell: the cell.
            after_layer: called after each layer.

        Raises:
            UserError: the model gives states that are not finite.
        """
        start = time.perf_counter()
        layers = []
        for states in self._states.of(cell):
            ranks = translation_ranks(
                states.first, states.second, margin=self.settings.margin, k=self.settings.neighbours
            )
            layers += [
                LayerAccuracy(states.layer, top, accuracy(ranks.forward, top), accuracy(ranks.backward, top))
                for top in self.settings.top
            ]
            after_layer()
        fit = self._states.fit_of(cell)
        wall_s = time.perf_counter() - start
        return Retrieved(cell, self._states.encoder.base_model, self.settings, fit, tuple(layers), wall_s)
