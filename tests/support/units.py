"""A toy model's units, and masks of them, for tests that need no model."""

import numpy as np

from lnsub.tickets.units import Group, Member, Units

SHAPES = {
    "layers.0.mlp.up.weight": (6, 5),
    "layers.0.mlp.down.weight": (5, 6),
    "layers.1.mlp.up.weight": (8, 5),
    "layers.1.mlp.down.weight": (5, 8),
    "layers.1.mlp.experts": (2, 6, 5),  # two experts of three neurons, each with a gate
}


def neurons() -> Units:
    """Six neurons in layer 0, eight in layer 1, and two experts of three, whose rows are those of gate, then of up."""
    groups = [
        Group(f"layers.{i}.mlp", n, (_rows(f"layers.{i}.mlp.up.weight", n), _columns(f"layers.{i}.mlp.down.weight", n)))
        for i, n in ((0, 6), (1, 8))
    ]
    groups += [
        Group(
            f"layers.1.mlp.experts.{expert}",
            3,
            (Member("layers.1.mlp.experts", 1, ((0, 3, 1), (3, 3, 1)), expert),),
        )
        for expert in range(2)
    ]
    return Units("neuron", tuple(groups))


def _rows(name: str, count: int) -> Member:
    return Member(name, 0, ((0, count, 1),))


def _columns(name: str, count: int) -> Member:
    return Member(name, 1, ((0, count, 1),))


def weights_of(unit: int, group: str) -> list[tuple[str, tuple]]:
    """One unit's weights as (parameter, index), written out by hand."""
    if "experts" in group:
        expert = int(group[-1])
        return [("layers.1.mlp.experts", (expert, row)) for row in (unit, unit + 3)]
    return [(f"{group}.up.weight", (unit,)), (f"{group}.down.weight", (slice(None), unit))]


def masks_of(kept: dict[str, set[int]]) -> dict[str, np.ndarray]:
    """Boolean masks that keep these units of each group, and no others."""
    masks = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    for group in neurons().groups:
        for unit in range(group.count):
            if unit not in kept[group.name]:
                for name, index in weights_of(unit, group.name):
                    masks[name][index] = False
    return masks


def random_kept(number: int, share: float = 0.5) -> dict[str, set[int]]:
    rng = np.random.default_rng(number)
    return {g.name: {i for i in range(g.count) if rng.random() < share} for g in neurons().groups}
