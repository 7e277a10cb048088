"""What `lnsub prune` is asked for; no torch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from lnsub.common.bounds import Count, Fraction, Seed, out_of_bounds, shown
from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.common.names import plain_name
from lnsub.tickets.units import Granularity

LAPE = "lape"

SCORES = {
    "wanda": "weight times the norm of its input over the sample (Sun et al. 2024)",
    LAPE: "neurons whose activation is specific to few of the languages (Tang et al. 2024)",
    "magnitude": "the weight itself; no sample",
    "fisher": "Fisher information over the sample",
    "taylor": "weight times gradient over the sample",
    "random": "at random, by the seed; no sample",
}
"""The scores of tickets without training, with what each says."""

FORWARD = frozenset({"wanda", LAPE})
"""Scores that need only a forward pass through the blocks."""

SAMPLED = FORWARD | {"fisher", "taylor"}
"""Scores that read the sample."""

Labels = Literal["observed", "sampled"]
Scope = Literal["global", "layer", "matrix", "stack", "row"]


@dataclass(frozen=True)
class Calibration:
    """Which tickets to make.

    Attributes:
        score: a key of :data:`SCORES`.
        languages: the languages, or mixtures such as ``en+fr``.
        seeds: what samples are drawn by.
        sparsities: one ticket for each; none for ``lape``.
        examples: rows of the train split in a sample; all, where there are fewer.
        scope: what is ranked together; None: ``row`` for ``wanda``, or ``matrix`` where it ranks heads, neurons or
            rows; else ``global``.
        granularity: what a mask keeps or prunes as a whole; None: ``neuron`` for ``lape``, else ``weight``.
        labels: for ``fisher``: the data's, or drawn from the model's own distribution; None: ``observed``.
        pooled: also make tickets of the samples of all languages together.
        layer_by_layer: take all examples through one block before the next, with only that block on the device.
        lape_rate: for ``lape``: the share of neurons that are chosen; None: 0.01.
        lape_quantile: for ``lape``: the quantile of all activation probabilities that a language's must exceed for a
            neuron to be active in it; None: 0.95.

    Raises:
        UserError: a value is out of range, or an option does not apply to the score.
    """

    score: str
    languages: Sequence[str]
    seeds: Sequence[Seed]
    sparsities: Sequence[Fraction] = ()
    examples: Count = 128
    scope: Scope | None = None
    granularity: Granularity | None = None
    labels: Labels | None = None
    pooled: bool = False
    layer_by_layer: bool = False
    lape_rate: Fraction | None = None
    lape_quantile: Fraction | None = None
    chosen: dict[str, Any] = field(default_factory=dict, init=False)
    """The settings with their defaults filled in, that a folder's tickets must have in common."""

    def __post_init__(self) -> None:
        lookup("score", self.score, SCORES)
        self._check_numbers()
        self._check_languages()
        if self.score == LAPE:
            self._check_lape()
        elif self.lape_rate is not None or self.lape_quantile is not None:
            raise UserError(f"--lape-rate and --lape-quantile require --score lape; the score is {self.score}.")
        elif not self.sparsities:
            raise UserError("Name at least one sparsity: --sparsities 0.5.")
        if self.labels is not None and self.score != "fisher":
            raise UserError(f"--labels requires --score fisher; the score is {self.score}.")
        if self.layer_by_layer and self.score not in FORWARD:
            raise UserError(
                f"--layer-by-layer requires a score that needs no gradients ({', '.join(sorted(FORWARD))}); the score "
                f"is {self.score}."
            )
        granularity = self.granularity or ("neuron" if self.score == LAPE else "weight")
        if granularity != "weight" and self.scope == "row":
            raise UserError(f"--scope row ranks single weights: choose another for {granularity}s.")
        usual = {"wanda": "row" if granularity == "weight" else "matrix"}
        object.__setattr__(
            self,
            "chosen",
            {
                "score": self.score,
                "scope": self.scope or usual.get(self.score, "global"),
                "granularity": granularity,
            }
            | ({"examples": self.examples} if self.score in SAMPLED else {})
            | ({"labels": self.labels or "observed"} if self.score == "fisher" else {})
            | (
                {"rate": self.rate, "quantile": self.quantile, "languages": sorted(self.languages)}
                if self.score == LAPE
                else {}
            ),
        )

    @property
    def rate(self) -> float:
        """The share of neurons that ``lape`` chooses."""
        return self.lape_rate or 0.01

    @property
    def quantile(self) -> float:
        """The quantile that ``lape`` goes by."""
        return self.lape_quantile or 0.95

    @property
    def levels(self) -> tuple[float, ...]:
        """The sparsities of each run's tickets, increasing."""
        return (round(1 - self.rate, 6),) if self.score == LAPE else tuple(sorted(set(self.sparsities)))

    @property
    def pool(self) -> str | None:
        """The name of the languages together; None where no such ticket is asked for."""
        return "+".join(self.languages) if self.pooled else None

    @property
    def sources(self) -> tuple[str, ...]:
        """What tickets are made of: the languages, and the pool of them."""
        return (*self.languages, *([self.pool] if self.pool else []))

    def read_for(self, sources: Collection[str]) -> list[str]:
        """The languages whose samples are read for the tickets of some languages, or of the pool."""
        every = bool(sources) and (self.score == LAPE or self.pool in sources)
        return [language for language in self.languages if every or language in sources]

    def _check_numbers(self) -> None:
        hints = get_type_hints(Calibration)
        for name in ("examples", "lape_rate", "lape_quantile"):
            if expected := out_of_bounds(getattr(self, name), hints[name]):
                raise UserError(f"--{name.replace('_', '-')} is {shown(getattr(self, name))}: it must {expected}.")
        for option, values, kind in (("seeds", self.seeds, Seed), ("sparsities", self.sparsities, Fraction)):
            for value in values:
                if expected := out_of_bounds(value, kind):
                    raise UserError(f"--{option} has {shown(value)}: each must {expected}.")
        for name, kind in (("scope", Scope), ("granularity", Granularity), ("labels", Labels)):
            value = getattr(self, name)
            if value is not None:
                lookup(name, value, dict.fromkeys(get_args(kind)))

    def _check_languages(self) -> None:
        if not self.languages:
            raise UserError("Name at least one language: --languages fr,ur.")
        for language in self.languages:
            plain_name("language", language)
        if self.pooled and len(self.languages) < 2:
            raise UserError("--pooled puts the samples of several languages together: name two at least.")
        if self.pool:
            parts = self.pool.split("+")
            if twice := next((part for part in parts if parts.count(part) > 1), None):
                raise UserError(f"--pooled would count {twice} twice, which is in two of the languages.")
            plain_name("pool of languages", self.pool)

    def _check_lape(self) -> None:
        if len(self.languages) < 2:
            raise UserError("--score lape compares languages: name two at least.")
        if self.sparsities:
            raise UserError("--score lape takes no --sparsities: --lape-rate is the share of neurons that it chooses.")
        if self.granularity not in {None, "neuron"} or self.scope not in {None, "global"}:
            raise UserError("--score lape chooses neurons among those of the whole model: leave out the other options.")
        if self.pooled:
            raise UserError("--score lape tells languages apart, so there is no ticket of all of them: drop --pooled.")
