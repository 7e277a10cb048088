"""Small tickets for the tests, and the plain-set view of a mask that results are checked against."""

import numpy as np

from lnsub.tickets.ticket import Provenance, Ticket

# Sizes that are no multiple of 8 or 64, so that tails of bytes and words are met.
SHAPES = {
    "encoder.layer.0.attention.self.query.weight": (7, 9),
    "encoder.layer.0.attention.output.dense.weight": (5, 5),
    "encoder.layer.0.output.dense.weight": (11, 13),
    "encoder.layer.1.attention.self.query.weight": (8, 8),
    "encoder.layer.10.attention.self.query.weight": (3, 4),
    "pooler.dense.weight": (6, 6),
}


def provenance(**changes: object) -> Provenance:
    values: dict = {
        "base_model": "tiny-bert",
        "base_fingerprint": "ab" * 32,
        "task": "xnli",
        "language": "fr",
        "seed": 0,
        "round": 5,
        "sparsity": 0.5,
        "score": "magnitude",
        "scope": "global",
        "schedule": "linear",
        "created": "2026-01-02T03:04:05+00:00",
    }
    return Provenance(**(values | changes))


def ticket(masks: dict[str, np.ndarray], **changes: object) -> Ticket:
    """A ticket of boolean masks."""
    packed = {name: np.packbits(mask, axis=None, bitorder="little") for name, mask in masks.items()}
    return Ticket(packed, {name: mask.shape for name, mask in masks.items()}, provenance(**changes))


def random_masks(density: float, seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape) < density for name, shape in shapes.items()}


def random_ticket(
    density: float, number: int, shapes: dict[str, tuple[int, ...]] = SHAPES, /, **changes: object
) -> Ticket:
    return ticket(random_masks(density, number, shapes), **changes)


def kept_set(masks: dict[str, np.ndarray], names: set[str] | None = None) -> set[tuple[str, int]]:
    """The kept weights of boolean masks as (name, position) pairs; only of some parameters, where given."""
    return {
        (name, i)
        for name, mask in masks.items()
        if names is None or name in names
        for i, kept in enumerate(mask.flat)
        if kept
    }
