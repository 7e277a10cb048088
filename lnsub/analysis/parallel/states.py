"""Goes through sub-networks and languages, and gives the states of parallel sentences, layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lnsub.analysis.parallel.cells import Cell, own_cells, shared_cells
from lnsub.analysis.parallel.embedding import POOLINGS, SentenceEncoder
from lnsub.analysis.parallel.sentence_pairs import Pairs, check_distinct
from lnsub.common.bounds import Count, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.models.apply import Fit
from lnsub.tickets.ticket import Ticket

MEMORY = 2**32
"""Bytes of embeddings held at once. If those of all layers take more, the model runs again for each part of them."""

Pooling = Literal["mean", "first"]


@dataclass(frozen=True)
class Reading:
    """Which states are read off the model, and how.

    Args:
        layers: numbers of hidden states, 0 for the embeddings; None takes all.
        pooling: ``mean`` over all tokens but padding, or the ``first`` token's state.
        batch_tokens: the most tokens in a padded batch.

    Raises:
        UserError: a value is outside its range.
    """

    layers: tuple[int, ...] | None = None
    pooling: Pooling = "mean"
    batch_tokens: Count = 8192

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise UserError(f"pooling is {self.pooling!r}: it must be one of {', '.join(POOLINGS)}.")
        check_numbers(hints_of(Reading), vars(self))
        if self.layers is not None and not self.layers:
            raise UserError("No layer is chosen: name at least one, or all.")


class States(NamedTuple):
    """The states of a cell's sentences in one layer.

    Attributes:
        layer: the number of the hidden state, 0 for the embeddings.
        first: the pivot's sentences: float32 [sentences, hidden], on the encoder's device.
        second: their translations: likewise.
    """

    layer: int
    first: Tensor
    second: Tensor


class ParallelStates:
    """The states of every language's pairs under the dense model and under each ticket, one cell at a time.

    Constructing it checks everything, before anything is measured.

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint: theta_0.
        pairs: the pairs of each language.
        tickets: tickets that were found in this base model.
        own: each language is embedded under its own ticket, see :func:`lnsub.analysis.parallel.cells.own_cells`,
            rather than both under the same.
        beside: further masks of this base model, under each of which both languages are embedded in any case.
        reading: which states.
        device: where to compute; see :class:`lnsub.analysis.parallel.embedding.SentenceEncoder`.

    Attributes:
        cells: the dense model's and then each ticket's and each mask's, each over all languages.
        encoder: the model.
        layers: the layers that are read.

    Raises:
        UserError: the base model cannot be used, a ticket is another base model's, there is no such layer, or two
            collections of pairs are of the same languages.
    """

    def __init__(
        self,
        base_model: str,
        pairs: Sequence[Pairs],
        tickets: Sequence[Ticket] = (),
        own: bool = False,
        beside: Sequence[Ticket] = (),
        reading: Reading | None = None,
        device: str = "auto",
    ) -> None:
        check_distinct(pairs)
        if own and not tickets:
            raise UserError("No ticket is named: --own-tickets needs those of each language.")
        self.reading = reading or Reading()
        self.cells = (own_cells if own else shared_cells)(tickets, pairs)
        self.cells += [cell for cell in shared_cells(beside, pairs) if cell.ticket]
        self.encoder = SentenceEncoder(base_model, device)
        self._fits = {id(ticket): self.encoder.check(ticket) for ticket in (*tickets, *beside)}
        last = self.encoder.layers
        self.layers = tuple(range(last + 1)) if self.reading.layers is None else self.reading.layers
        for layer in self.layers:
            if not 0 <= layer <= last:
                raise UserError(f"There is no layer {layer}: {base_model} has 0 (the embeddings) to {last}.")
        texts = {text for one in pairs for text in ((one.pivot, one.first), (one.language, one.second))}
        self._tokens = {(language, text): self.encoder.tokenise(text, language) for language, text in texts}
        self._ticket: Ticket | None = None
        # The pivot's sentences are often the same in cells that follow one another.
        self._kept: tuple[object, Tensor] | None = None

    def fit_of(self, cell: Cell) -> Fit | None:
        """Which of the ticket's parameters the model has; None where dense."""
        return self._fits[id(cell.ticket)] if cell.ticket else None

    def of(self, cell: Cell) -> Iterator[States]:
        """Gives the states of one of :attr:`cells`, layer by layer.

        Raises:
            UserError: the model gives states that are not finite.
        """
        together = max(1, MEMORY // (2 * len(cell.pairs) * self.encoder.hidden * 4))
        for start in range(0, len(self.layers), together):
            layers = self.layers[start : start + together]
            key = (id(cell.pivot_ticket), cell.pairs.pivot, cell.pairs.first, layers)
            if self._kept is None or self._kept[0] != key:
                self._kept = None
                text = (cell.pairs.pivot, cell.pairs.first)
                self._kept = (key, self._embedded(cell.pivot_ticket, text, layers))
            text = (cell.pairs.language, cell.pairs.second)
            first, second = self._kept[1], self._embedded(cell.ticket, text, layers)
            for place, layer in enumerate(layers):
                yield States(layer, *(self._finite(side[place], cell, layer) for side in (first, second)))

    def _embedded(self, ticket: Ticket | None, text: tuple[str, tuple[str, ...]], layers: Sequence[int]) -> Tensor:
        """The states of sentences, given with their language."""
        if ticket is not self._ticket:
            self.encoder.apply_ticket(ticket)
            self._ticket = ticket
        return self.encoder.embed(self._tokens[text], layers, self.reading.pooling, self.reading.batch_tokens)

    def _finite(self, states: Tensor, cell: Cell, layer: int) -> Tensor:
        if not torch.isfinite(states).all():
            raise UserError(
                f"The states of layer {layer} of {self.encoder.base_model} ({cell.label}) are not finite numbers: "
                "the checkpoint is damaged."
            )
        return states.to(self.encoder.device)
