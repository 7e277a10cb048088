"""Similarity of two languages' states of parallel sentences, by layer, for the dense model and under tickets.

Where translations have similar states, a sub-network says what a sentence means more than in which language it is.
Retrieval asks whether a translation is nearest; similarity asks whether the whole arrangement of the sentences is the
same, up to a rotation (CKA) or any linear map (SVCCA, PWCCA). A ticket is applied to theta_0 and nothing is trained.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lnsub.analysis.parallel.cells import Cell
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.analysis.parallel.states import ParallelStates, Pooling, Reading
from lnsub.analysis.similarity.axes import AxesPair, PrincipalAxes
from lnsub.analysis.similarity.measures import MEASURES
from lnsub.analysis.similarity.resampling import FEWEST, Estimate, estimates
from lnsub.common.bounds import Count, CountOrZero, Seed, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.threads import workers
from lnsub.models.apply import Fit
from lnsub.runs.records import Record, records_of
from lnsub.tickets.ticket import Ticket


@dataclass(frozen=True)
class Settings:
    """How similarity is measured.

    Args:
        layers: numbers of hidden states, 0 for the embeddings; None takes all.
        pooling: ``mean`` over all tokens but padding, or the ``first`` token's state.
        measures: of :data:`lnsub.analysis.similarity.measures.MEASURES`.
        resamples: subsets of the sentences that the interval comes from; 0 for none, else at least 2.
        shuffles: orders of the sentences that the null comes from; 0 for none.
        seed: of both.
        batch_tokens: the most tokens in a padded batch.

    Raises:
        UserError: a value is outside its range.
    """

    layers: tuple[int, ...] | None = None
    pooling: Pooling = "mean"
    measures: tuple[str, ...] = ("cka", "svcca", "pwcca")
    resamples: CountOrZero = 100
    shuffles: CountOrZero = 20
    seed: Seed = 0
    batch_tokens: Count = 8192

    def __post_init__(self) -> None:
        check_numbers(hints_of(Settings), vars(self))
        if self.resamples == 1:
            raise UserError("resamples is 1: an interval needs at least 2, or 0 for none.")
        if not self.measures:
            raise UserError(f"No measure is chosen: name at least one of {', '.join(MEASURES)}.")
        for name in self.measures:
            if name not in MEASURES:
                raise UserError(f"There is no measure '{name}': choose from {', '.join(MEASURES)}.")
        _ = self.reading  # checks the others

    @property
    def reading(self) -> Reading:
        """Which states are read."""
        return Reading(self.layers, self.pooling, self.batch_tokens)


@dataclass(frozen=True)
class LayerSimilarity:
    """One measure in one layer.

    Attributes:
        layer: the hidden state, 0 for the embeddings.
        measure: the measure's name.
        estimate: the value with its null and interval; None where the states of a language are all the same.
        directions: how many canonical directions were compared; None of CKA, which compares all at once.
        axes: how many axes the larger side of them came from.
    """

    layer: int
    measure: str
    estimate: Estimate | None
    directions: int | None
    axes: int | None


@dataclass(frozen=True)
class Similar:
    """What was measured in one cell.

    Attributes:
        cell: the cell.
        base_model: the base model's name.
        settings: how it was measured.
        fit: which of the ticket's parameters the model has; None where dense.
        layers: similarity by layer and, within a layer, by measure, in the order asked for.
        wall_s: seconds it took.
    """

    cell: Cell
    base_model: str
    settings: Settings
    fit: Fit | None
    layers: tuple[LayerSimilarity, ...]
    wall_s: float

    def rows(self) -> list[dict[str, Any]]:
        """The measurements as rows of a table.

        Returns:
            One row a layer and measure: ``ticket`` (its label, or ``dense``), ``source`` (its language, None where
            dense), ``target``, ``pivot`` (whose directions PWCCA weights), ``sparsity``, ``layer``, ``measure``,
            ``value`` (None where the states are all the same), ``low`` and ``high`` (its 95 % interval), ``null``,
            ``null_low`` and ``null_high`` (of shuffled sentences), ``directions`` (canonical directions compared),
            ``pairs``, ``empty`` and ``repeated`` (pairs left out), ``pooling``, ``resamples``, ``shuffles``, ``seed``,
            ``matrices`` (that the mask was applied to) and ``left_out`` (parameters that only one of ticket and model
            has, by ``;``).
        """
        pairs = self.cell.pairs
        settings = {
            "pairs": len(pairs),
            "empty": pairs.empty,
            "repeated": pairs.repeated,
            "pooling": self.settings.pooling,
            "resamples": self.settings.resamples,
            "shuffles": self.settings.shuffles,
            "seed": self.settings.seed,
            "matrices": len(self.fit.shared) if self.fit else None,
            "left_out": ";".join(self.fit.only_ticket + self.fit.only_model) if self.fit else "",
        }
        none: dict[str, Any] = dict.fromkeys(("value", "low", "high", "null", "null_low", "null_high"))
        return [
            self.cell.columns()
            | {"layer": one.layer, "measure": one.measure}
            | (none if one.estimate is None else asdict(one.estimate))
            | {"directions": one.directions}
            | settings
            for one in self.layers
        ]

    def records(self) -> list[Record]:
        """The measurements as records of the kind ``similarity``, one a layer and measure that has a value.

        The metric is the measure and the pooling: ``svcca/first``.
        """
        return [
            record
            for one in self.layers
            if one.estimate is not None
            for record in records_of(
                {f"{one.measure}/{self.settings.pooling}": one.estimate.value},
                kind="similarity",
                task="similarity",
                model=self.base_model,
                wall_s=round(self.wall_s, 3),
                layer=one.layer,
                **{name: part for name, part in asdict(one.estimate).items() if name != "value"},
                **self.cell.facts(),
            )
        ]

    def cautions(self) -> list[str]:
        """Sentences on layers whose values say little."""
        same = sorted({one.layer for one in self.layers if one.estimate is None})
        few = sorted({one.layer for one in self.layers if one.axes and 2 * one.axes > len(self.cell.pairs)})
        said = []
        if same:
            said.append(
                f"{self.cell.name}: all states of layer {_listed(same)} are the same, so that nothing can be compared."
            )
        if few:
            said.append(
                f"{self.cell.name}: in layer {_listed(few)} the canonical correlations are of fewer than two sentences "
                "an axis, which makes them high whatever the sentences say; compare them with the null."
            )
        return said


class Similarity:
    """Similarity of every language's pairs in the dense model and under each ticket, one cell at a time.

    Constructing it checks everything, before anything is measured::

        similarity = Similarity("google-bert/bert-base-multilingual-cased", [read_pairs(Path("fr.parquet"))])
        for cell in similarity.cells:
            print(similarity.measure(cell).rows())

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
        UserError: a language has too few pairs; see also :class:`lnsub.analysis.parallel.states.ParallelStates`.
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
            if len(one) < FEWEST:
                raise UserError(f"'{one.language}' has {len(one)} sentence pairs: similarity needs at least {FEWEST}.")
        self._states = ParallelStates(base_model, pairs, tickets, own_tickets, beside, self.settings.reading, device)
        hidden = self._states.encoder.hidden
        for one in pairs:
            if "pwcca" in self.settings.measures and len(one) < 2 * hidden:
                raise UserError(
                    f"'{one.language}' has {len(one)} sentence pairs, but PWCCA of states of {hidden} dimensions needs "
                    f"{2 * hidden}, twice as many: with fewer it is high whatever the sentences say; give more pairs, "
                    "or leave pwcca out of the measures."
                )
        self.cells, self.layers = self._states.cells, self._states.layers

    def measure(self, cell: Cell, after_layer: Callable[[], None] = lambda: None) -> Similar:
        """Measures one of :attr:`cells`.

        Args:
            cell: the cell.
            after_layer: called after each layer.

        Raises:
            UserError: the model gives states that are not finite.
        """
        start, chosen = time.perf_counter(), self.settings
        layers: list[LayerSimilarity] = []
        for states in self._states.of(cell):
            with workers(states.first.device) as pool:
                x, y = pool.each(PrincipalAxes.of, (states.first, states.second))
            found: dict[str, Estimate] = {}
            if x.rank and y.rank:
                found = estimates(
                    AxesPair(x, y),
                    chosen.measures,
                    resamples=chosen.resamples,
                    shuffles=chosen.shuffles,
                    seed=chosen.seed,
                )
            for name in chosen.measures:
                axes = MEASURES[name].axes
                few, many = sorted((axes(x), axes(y))) if axes else (None, None)
                estimate = found.get(name)
                measured = estimate if estimate and math.isfinite(estimate.value) else None
                layers.append(LayerSimilarity(states.layer, name, measured, few, many))
            after_layer()
        fit = self._states.fit_of(cell)
        wall_s = time.perf_counter() - start
        return Similar(cell, self._states.encoder.base_model, chosen, fit, tuple(layers), wall_s)


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
