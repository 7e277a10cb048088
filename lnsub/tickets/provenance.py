"""The provenance of a ticket: base model, task, language, seed, pruning method and date."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lnsub.common.names import name_problem
from lnsub.version import __version__

INHERITED = "inherited"
"""Task and language of an inherited mask: the magnitude mask of theta_0."""

RANDOM_FROM = "random_from"
"""Start of the score of a mask that was pruned at random from a ticket of a lower sparsity: ``random_from:0.1``."""

LONGEST = 5000
"""The most characters of a field that is no JSON; the longest path of a base model has 4,096."""

_OPTIONAL = {
    **dict.fromkeys(("sources", "units", "calibration", "condition", "head", "order", "rows", "labels"), ""),
    "granularity": "weight",
}
"""Fields that a ticket need not have, with what it means that it has none."""

_LONG = frozenset({"sources", "units", "calibration"})
"""Fields with JSON, of any length."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def start_sparsity(score: str) -> float | None:
    """The sparsity that a mask was pruned at random from, by its score ``random_from:0.1``; None for other scores."""
    name, _, start = score.partition(":")
    try:
        sparsity = float(start)
    except ValueError:
        return None
    return sparsity if name == RANDOM_FROM and 0 < sparsity < 1 else None


@dataclass(frozen=True)
class Provenance:
    """The metadata of a ticket file except for ``format``, ``shapes`` and the checksums."""

    base_model: str
    """Name or path of the base model, as the configuration gave it."""
    base_fingerprint: str
    """SHA-256 (hex) over the prunable weights of theta_0 that came from the checkpoint."""
    task: str
    """Task that the ticket was found on: ``xnli``, ``wikiann``, ``mlm``, ...; ``inherited`` for an inherited mask."""
    language: str
    """Source language, or languages joined by ``+`` for a mixture or a combined ticket; ``inherited`` for an inherited
    mask."""
    seed: int
    """Seed of the run; -1 for a ticket combined from runs of several seeds."""
    round: int
    """The round that trains under this mask, 0 being dense; -1 for a ticket combined from several rounds."""
    sparsity: float
    """Requested sparsity: pruned share of the prunable weights, in [0, 1]."""
    score: str
    """Name of the importance score: ``magnitude``, ``random``, ``magnitude_init``, ``taylor``, ...;
    for a combined ticket, how it was combined; for a baseline's mask, its name, see :func:`start_sparsity`."""
    scope: str
    """Which weights were ranked together: ``global``, ``layer``, ``matrix``, ``stack``."""
    schedule: str
    """How the sparsities of the rounds were set."""
    metric: str = ""
    """Metric of the fit that the mask was made from, as ``name=value``; empty if there was none."""
    lnsub_version: str = __version__
    """Version of lnsub that made the ticket."""
    created: str = field(default_factory=_now)
    """When the ticket was made: ISO 8601, UTC."""
    sources: str = ""
    """JSON describing the tickets that a combined ticket was made from; empty for any other."""
    granularity: str = "weight"
    """What the mask keeps or prunes as a whole: ``weight``, ``neuron``, ``head`` or ``row``."""
    units: str = ""
    """JSON describing which weights those are (:class:`lnsub.tickets.units.Units`); empty for single weights."""
    calibration: str = ""
    """JSON describing the sample that a ticket without training was computed from; empty for any other."""
    condition: str = ""
    """What sets the run apart from the plain one of its seed (:mod:`lnsub.runs.condition`); empty where plain."""
    head: str = ""
    """Seed of the weights that the checkpoint lacked, the task head's, or ``pretrained`` where it lacked none; empty in
    tickets of earlier versions, for the run's seed."""
    order: str = ""
    """Seed of the order of the data, of dropout and of training masks; empty likewise."""
    rows: str = ""
    """The training rows, as a text that runs have in common that trained on the same: ``fr, sample 1 of 2000 rows``;
    empty where unknown."""
    labels: str = ""
    """``shuffled`` where training labels were shuffled; empty where they were not."""

    @property
    def ranked_by(self) -> str:
        """How weights were ranked: the score, and the granularity where that is not single weights."""
        return self.score if self.granularity == "weight" else f"{self.score} by {self.granularity}"

    def to_metadata(self) -> dict[str, str]:
        """Returns the fields as metadata strings of a ticket file, without those that say nothing."""
        texts = {f.name: str(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {name: text for name, text in texts.items() if text != _OPTIONAL.get(name)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "Provenance":
        """Reads the fields from a ticket file's metadata, ignoring unknown keys.

        Raises:
            ValueError: a field is missing or not a number, or the task or language cannot name a folder; the message
                names it.
        """
        values: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            text = metadata.get(f.name, _OPTIONAL.get(f.name))
            if text is None:
                raise ValueError(f"its metadata has no {f.name!r}")
            if len(text) > LONGEST and f.name not in _LONG:
                raise ValueError(f"its {f.name!r} has {len(text):,} characters, more than {LONGEST:,}")
            try:
                values[f.name] = f.type(text) if f.type in (int, float) else text
            except ValueError:
                raise ValueError(f"its {f.name!r} is {text[:40]!r}, which is not a number") from None
        for name in ("seed", "round"):
            if not -1 <= values[name] < 2**63:
                raise ValueError(f"its {name!r} is {metadata[name][:40]!r}, which is out of range")
        for name in ("task", "language"):
            if problem := name_problem(values[name]):
                raise ValueError(f"its {name!r} is {values[name][:40]!r}, which is not a plain name: {problem}")
        if not 0 <= values["sparsity"] <= 1:
            raise ValueError(f"its 'sparsity' is {metadata['sparsity']!r}, which is not between 0 and 1")
        return cls(**values)
