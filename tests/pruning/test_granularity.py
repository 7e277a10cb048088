"""Pruning by unit against plain loops over units."""

import numpy as np
import pytest
import torch

from lnsub.common.errors import UserError
from lnsub.pruning.granularity import prune, select_units, shuffled_units, unit_scores
from lnsub.pruning.masks import Mask
from tests.support.units import SHAPES, masks_of, neurons, random_kept, weights_of

OTHER = "layers.0.attention.weight"


def scores(number: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {name: torch.randn(shape, generator=generator) for name, shape in (SHAPES | {OTHER: (3, 4)}).items()}


def unit_score(values: dict[str, torch.Tensor], unit: int, group: str) -> float:
    weights = torch.cat([values[name][index].flatten() for name, index in weights_of(unit, group)])
    return float(weights.double().abs().mean())


def test_a_units_score_is_the_mean_of_its_weights_absolute_scores():
    values = scores()
    for name, found in unit_scores(values, neurons()).items():
        expected = [unit_score(values, unit, name) for unit in range(len(found))]
        assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scope", ["global", "layer", "matrix"])
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.8])
def test_the_lowest_units_are_pruned(scope, sparsity):
    values, units = scores(), neurons()
    dense = Mask.dense({name: value.shape for name, value in values.items()})
    mask = select_units(values, dense, sparsity, scope, units)
    assert bool(mask[OTHER].all())
    kept = units.kept({name: mask[name].numpy() for name in units.parameters})
    sets: dict[str, list[tuple[float, int, str, int]]] = {}
    for group in units.groups:
        where = {"global": "", "layer": group.name[:8], "matrix": group.name}[scope]
        for unit in range(group.count):
            size = sum(dense[name][index].numel() for name, index in weights_of(unit, group.name))
            sets.setdefault(where, []).append((unit_score(values, unit, group.name), size, group.name, unit))
    for members in sets.values():
        ranked = sorted(members, key=lambda member: member[0])
        total = sum(size for _, size, _, _ in ranked)
        pruned = [sum(size for _, size, _, _ in ranked[:n]) for n in range(len(ranked) + 1)]
        best = min(range(len(pruned)), key=lambda n: abs(pruned[n] - sparsity * total))
        for place, (_, _, name, unit) in enumerate(ranked):
            assert kept[name][unit] == (place >= best)


def test_masks_are_nested_and_nothing_is_revived():
    units = neurons()
    mask = Mask.dense(SHAPES)
    for number, sparsity in enumerate([0.2, 0.4, 0.6, 0.9]):
        sparser = prune(scores(number), mask, sparsity, "global", units)
        assert sparser.is_subset_of(mask)
        assert abs(sparser.sparsity - sparsity) < 0.08  # a unit is 5 % of these weights
        mask = sparser
    with pytest.raises(UserError, match="none is ever revived"):
        prune(scores(9), mask, 0.2, "global", units)


def test_ties_go_by_name_and_place():
    values = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    mask = select_units(values, Mask.dense(SHAPES), 0.5, "matrix", neurons())
    kept = neurons().kept({name: bits.numpy() for name, bits in mask.items()})
    assert kept["layers.0.mlp"].tolist() == [False] * 3 + [True] * 3


def test_a_shuffled_mask_keeps_as_many_units_of_each_group():
    units = neurons()
    mask = Mask({name: torch.from_numpy(bits) for name, bits in masks_of(random_kept(3)).items()})
    found = units.kept({name: bits.numpy() for name, bits in shuffled_units(mask, units, 1).items()})
    before = units.kept({name: bits.numpy() for name, bits in mask.items()})
    assert {name: bits.sum() for name, bits in found.items()} == {name: bits.sum() for name, bits in before.items()}
    assert any(not np.array_equal(found[name], before[name]) for name in found)
    assert shuffled_units(mask, units, 1) == shuffled_units(mask, units, 1) != shuffled_units(mask, units, 2)


def test_what_cannot_be_ranked_is_refused():
    dense = Mask.dense(SHAPES)
    with pytest.raises(UserError, match="within a row"):
        select_units(scores(), dense, 0.5, "row", neurons())
    with pytest.raises(UserError, match="share of the weights"):
        select_units(scores(), dense, 1.0, "global", neurons())
    broken = scores()
    broken["layers.0.mlp.up.weight"][1, 1] = float("nan")
    with pytest.raises(UserError, match="NaN or infinite"):
        select_units(broken, dense, 0.5, "global", neurons())
