"""Models of mBERT's shape and larger ones, with random weights: speed does not depend on the values."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket

Shapes = dict[str, tuple[int, ...]]

MBERT = (12, 768)
"""Layers and width of bert-base-multilingual-cased: 73 prunable matrices, 85,524,480 weights."""
TOY = (2, 32)


def shapes_of(layers: int, width: int) -> Shapes:
    """The shapes of a BERT's prunable matrices by name; feed-forward layers are four times as wide as the rest."""
    shapes: Shapes = {}
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes[f"{prefix}.{part}.weight"] = (width, width)
        shapes[f"{prefix}.intermediate.dense.weight"] = (4 * width, width)
        shapes[f"{prefix}.output.dense.weight"] = (width, 4 * width)
    return {**shapes, "pooler.dense.weight": (width, width)}


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Normally distributed float32 weights, whose scale varies between matrices as in trained models."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.empty(shape).normal_(0, 0.03 + 0.02 * (number % 7) / 7, generator=generator)
        for number, (name, shape) in enumerate(shapes.items())
    }


def random_ticket(shapes: Mapping[str, tuple[int, ...]], language: str, sparsity: float, seed: int) -> Ticket:
    """A ticket with a random mask that keeps about ``1 - sparsity`` of the weights."""
    rng = np.random.default_rng(seed)
    # Drawing bytes from a table of 65,536 bytes of that density is faster than drawing bits.
    table = np.packbits(rng.random((1 << 16, 8)) >= sparsity, axis=1).ravel()
    masks = {
        name: table[rng.integers(0, 1 << 16, np.prod(shape) // 8, dtype=np.uint16)] for name, shape in shapes.items()
    }
    return Ticket(masks, shapes, provenance(language, sparsity, seed))


def provenance(language: str, sparsity: float, seed: int = 0) -> Provenance:
    """The provenance of synthetic tickets."""
    return Provenance(
        base_model="random",
        base_fingerprint="0" * 64,
        task="xnli",
        language=language,
        seed=seed,
        round=round(10 * sparsity),
        sparsity=sparsity,
        score="magnitude",
        scope="global",
        schedule="linear",
    )
