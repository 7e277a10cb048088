"""Units of masks against units written out by hand, and their place in ticket files."""

import json

import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Units
from tests.support.ticket_factory import ticket
from tests.support.units import SHAPES, masks_of, neurons, random_kept, weights_of


def test_masks_of_units_are_written_and_read_back():
    units = neurons()
    for number in range(5):
        kept = random_kept(number)
        bits = {g.name: np.isin(np.arange(g.count), list(kept[g.name])) for g in units.groups}
        masks = units.expanded(bits, SHAPES)
        for name, expected in masks_of(kept).items():
            np.testing.assert_array_equal(masks[name], expected)
        for name, found in units.kept(masks).items():
            np.testing.assert_array_equal(found, bits[name])


def test_sizes_and_sums_are_those_of_the_weights():
    rng = np.random.default_rng(0)
    values = {name: rng.random(shape) for name, shape in SHAPES.items()}
    sizes, sums = neurons().sizes(SHAPES), neurons().sums(values)
    for group in neurons().groups:
        for unit in range(group.count):
            weights = [values[name][index].ravel() for name, index in weights_of(unit, group.name)]
            assert sizes[group.name][unit] == sum(map(len, weights))
            assert sums[group.name][unit] == pytest.approx(sum(w.sum() for w in weights))


def test_a_unit_kept_in_part_is_refused():
    masks = masks_of(random_kept(0, share=1.0))
    masks["layers.1.mlp.down.weight"][2, 4] = False
    with pytest.raises(UserError, match=r"neuron 4 of layers\.1\.mlp is neither kept nor pruned as a whole"):
        neurons().kept(masks)


def test_a_ticket_carries_its_units_and_the_checksum_covers_them(tmp_path):
    made = ticket(masks_of(random_kept(1)), granularity="neuron", units=neurons().to_json())
    loaded = Ticket.load(made.save(tmp_path / "t.safetensors"))
    assert loaded.units == neurons()
    assert loaded.provenance.granularity == "neuron"
    assert ticket(masks_of(random_kept(1))).units is None


def test_tickets_whose_units_do_not_fit_their_masks_are_refused(tmp_path):
    described = json.loads(neurons().to_json())

    def changed(**groups: object) -> str:
        return json.dumps({"granularity": "neuron", "groups": described["groups"] | groups})

    bad = {
        "not described": ["{}", "[", "null", '{"granularity": 3, "groups": []}', changed(a=[3]), changed(a=7)],
        "no granularity": [json.dumps({"granularity": "x", "groups": described["groups"]})],
        "not counted": [changed(a=[0, [["layers.0.mlp.up.weight", 0, [[0, 6, 1]], None]]]), changed(a=[3, []])],
        "no mask of": [changed(a=[3, [["other", 0, [[0, 3, 1]], None]]])],
        "no axis": [changed(a=[3, [["layers.0.mlp.up.weight", 2, [[0, 3, 1]], None]]])],
        "more than": [changed(a=[2**30, [["layers.0.mlp.up.weight", 0, [[0, 3, 1]], None]]])],
        "beyond": [changed(a=[3, [["layers.0.mlp.up.weight", 0, [[4, 3, 1]], None]]])],
        "expert": [changed(a=[3, [["layers.1.mlp.experts", 1, [[0, 3, 1]], 2]]])],
    }
    for why, texts in bad.items():
        for text in texts:
            with pytest.raises(ValueError, match=why):
                Units.from_json(text, SHAPES)
    path = ticket(masks_of(random_kept(1)), granularity="neuron", units=bad["beyond"][0]).save(
        tmp_path / "b.safetensors"
    )
    with pytest.raises(UserError, match=r"b\.safetensors has been changed or damaged.*beyond"):
        Ticket.load(path)
    path = ticket(masks_of(random_kept(1)), granularity="head", units=neurons().to_json()).save(
        tmp_path / "c.safetensors"
    )
    with pytest.raises(UserError, match="neurons, not heads"):
        Ticket.load(path)
