"""Overlap by neuron is that of plain sets of neurons, on the command line too."""

from itertools import combinations

import numpy as np
import pytest

from lnsub.analysis.overlap.by_unit import UnitMagnitudes
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from tests.support.overlap_command import jaccard, overlap, rows_of, saved
from tests.support.units import SHAPES, masks_of, neurons, random_kept, weights_of

KEPT = {"fr0": random_kept(0, 0.7), "fr1": random_kept(1, 0.7), "ur0": random_kept(2, 0.4), "ur1": random_kept(3, 0.4)}


@pytest.fixture
def files(tmp_path) -> list[str]:
    masks = {name: masks_of(kept) for name, kept in KEPT.items()}
    return saved(tmp_path, masks, granularity="neuron", units=neurons().to_json())


def as_set(kept: dict[str, set[int]], layer: str = "") -> set[tuple[str, int]]:
    return {(group, unit) for group, units in kept.items() for unit in units if group.startswith(f"layers.{layer}")}


def test_the_overlap_of_neurons_is_that_of_plain_sets(files, capsys):
    rows = rows_of(capsys, *files, "--by", "neuron", "--by", "layer,neuron")
    for layer in (None, "0", "1"):
        found = [row["overlap"] for row in rows if row.get("layer") == layer]
        pairs = combinations([as_set(kept, layer or "") for kept in KEPT.values()], 2)
        assert found == pytest.approx([jaccard(a, b) for a, b in pairs])
    assert {row["weights"] for row in rows if "layer" not in row} == {6 + 8 + 2 * 3}
    text = overlap(capsys, *files, "--by", "neuron")
    assert "Compared over 20 neurons in 4 places" in text


def test_neutrality_is_taken_over_neurons_too(files, capsys):
    rows = rows_of(capsys, *files, "--by", "neuron", "--neutrality", table="index")
    (index,) = [row for row in rows if row["measure"] == "overlap"]
    fr0, fr1, ur0, ur1 = (as_set(kept) for kept in KEPT.values())
    assert index["ceiling"] == pytest.approx((jaccard(fr0, fr1) + jaccard(ur0, ur1)) / 2)
    assert index["cross"] == pytest.approx((jaccard(fr1, ur0) + jaccard(fr0, ur1)) / 2)  # of different seeds


def test_tickets_of_single_weights_have_no_neurons_to_compare(files, tmp_path):
    (tmp_path / "w").mkdir()
    (plain,) = saved(tmp_path / "w", {"zh0": masks_of(KEPT["fr0"])})
    with pytest.raises(UserError, match="keeps single weights: overlap by neuron"):
        run("overlap", [*files, plain, "--by", "neuron"])
    with pytest.raises(UserError, match="of granularity neuron, not head"):
        run("overlap", [*files, "--by", "head"])
    with pytest.raises(UserError, match="one kind of unit at a time"):
        run("overlap", [*files, "--by", "head,neuron"])


def test_magnitudes_of_units_are_means():
    rng = np.random.default_rng(0)
    theta_0 = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    found = UnitMagnitudes(theta_0, neurons())
    assert len(found) == 4
    for group in neurons().groups:
        for unit, value in enumerate(found[f"{group.name}.neurons"]):
            weights = np.concatenate([theta_0[name][index].ravel() for name, index in weights_of(unit, group.name)])
            assert value == pytest.approx(np.abs(weights).mean(), rel=1e-5)
