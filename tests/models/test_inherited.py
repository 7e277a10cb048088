from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertModel

from lnsub.analysis.overlap.inheritance import departures, inheritance
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0, inherited_masks, save_inherited, served_by
from lnsub.tickets.parameters import layer_of
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Group, Member, Units
from tests.support.models import bert_config, save_checkpoint
from tests.support.ticket_factory import ticket

POOLER = "pooler.dense.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a pooler."""
    return save_checkpoint(tmp_path_factory.mktemp("base"), ["a", "b"])


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a pooler, whose weights are larger than the others."""
    folder = save_checkpoint(tmp_path_factory.mktemp("pooled"), ["a", "b"])
    torch.manual_seed(1)
    model = BertModel(bert_config(7))
    with torch.no_grad():
        model.pooler.dense.weight.mul_(5)
    model.save_pretrained(folder)
    return folder


def linear_weights(folder: Path) -> dict[str, np.ndarray]:
    """The prunable weights of a checkpoint, read off its file."""
    found = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        bare = name.removeprefix("bert.")
        if bare == POOLER or (bare.startswith("encoder.") and bare.endswith(".weight") and tensor.dim() == 2):
            found[bare] = tensor.numpy()
    return found


def sorted_mask(weights: dict[str, np.ndarray], sparsity: float) -> dict[str, np.ndarray]:
    """Keeps the largest: all weights in one list, sorted."""
    values = np.sort(np.concatenate([np.abs(w).ravel() for w in weights.values()]))
    threshold = values[round(sparsity * values.size)]
    return {name: np.abs(w) >= threshold for name, w in weights.items()}


def ticket_of(theta_0: Theta0, shapes: dict[str, tuple[int, ...]], **changes: object) -> Ticket:
    rng = np.random.default_rng(0)
    masks = {name: rng.random(shape) < 0.5 for name, shape in shapes.items()}
    return ticket(masks, base_fingerprint=theta_0.fingerprint, base_model=theta_0.base_model, **changes)


def shapes_of(theta_0: Theta0, *, pooler: bool = False) -> dict[str, tuple[int, ...]]:
    shapes = {name: theta_0[name].shape for name in theta_0 if name != POOLER}
    return shapes | ({POOLER: (16, 16)} if pooler else {})


def bits(mask: Ticket, name: str) -> np.ndarray:
    shape = mask.shapes[name]
    return np.unpackbits(mask.masks[name], count=int(np.prod(shape)), bitorder="little").reshape(shape).astype(bool)


def test_masks_follow_the_scope_row_and_the_units_of_tickets(base: Path) -> None:
    theta_0, plain = Theta0.load(str(base)), linear_weights(base)
    (mask,) = inherited_masks(theta_0, [ticket_of(theta_0, shapes_of(theta_0), sparsity=0.25, scope="row")])
    for name, weights in plain.items():
        order = np.argsort(np.abs(weights), axis=1, kind="stable")
        expected = np.ones(weights.shape, bool)
        np.put_along_axis(expected, order[:, : round(0.25 * weights.shape[1])], False, axis=1)
        np.testing.assert_array_equal(bits(mask, name), expected)
    units = Units(
        "row", tuple(Group(name, len(plain[name]), (Member(name, 0, ((0, len(plain[name]), 1),)),)) for name in plain)
    )
    found = ticket(
        {name: np.ones(w.shape, bool) for name, w in plain.items()},
        sparsity=0.25,
        scope="matrix",
        granularity="row",
        units=units.to_json(),
        base_fingerprint=theta_0.fingerprint,
    )
    (mask,) = inherited_masks(theta_0, [found])
    assert (mask.provenance.granularity, mask.provenance.units) == ("row", units.to_json())
    for name, weights in plain.items():
        lowest = np.argsort(np.abs(weights).mean(1, dtype=np.float64), kind="stable")[: round(0.25 * len(weights))]
        assert sorted(lowest) == np.flatnonzero(~bits(mask, name).any(1)).tolist()


def test_theta_0_is_what_the_checkpoint_holds(base: Path, pooled: Path) -> None:
    state = torch.random.get_rng_state()
    for folder, pooler in ((base, False), (pooled, True)):
        theta_0, plain = Theta0.load(str(folder)), linear_weights(folder)
        assert list(theta_0) == sorted(plain)
        assert (POOLER in theta_0) == pooler
        for name, weights in plain.items():
            assert theta_0[name].dtype == np.float32
            np.testing.assert_array_equal(theta_0[name], weights)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_an_inherited_mask_is_a_plain_sort_of_theta_0(base: Path, sparsity: float) -> None:
    theta_0 = Theta0.load(str(base))
    (made,) = inherited_masks(theta_0, [ticket_of(theta_0, shapes_of(theta_0), sparsity=sparsity)])
    expected = sorted_mask(linear_weights(base), sparsity)
    assert made.masks.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(bits(made, name), mask)
    p = made.provenance
    assert (p.task, p.language, p.score, p.sparsity) == ("inherited", "inherited", "magnitude_init", sparsity)
    assert (p.scope, p.base_fingerprint, p.sources) == ("global", theta_0.fingerprint, "")


def test_an_inherited_mask_has_the_scope_of_its_ticket(base: Path) -> None:
    theta_0 = Theta0.load(str(base))
    tickets = [ticket_of(theta_0, shapes_of(theta_0), scope=scope) for scope in ("layer", "matrix")]
    by_layer, by_matrix = inherited_masks(theta_0, tickets)
    weights = linear_weights(base)
    for name in weights:
        alone = sorted_mask({name: weights[name]}, 0.5)[name]
        layer = sorted_mask({n: w for n, w in weights.items() if layer_of(n) == layer_of(name)}, 0.5)[name]
        np.testing.assert_array_equal(bits(by_matrix, name), alone)
        np.testing.assert_array_equal(bits(by_layer, name), layer)


def test_each_sparsity_and_set_of_parameters_has_a_mask_of_its_own(pooled: Path) -> None:
    theta_0 = Theta0.load(str(pooled))
    weights = linear_weights(pooled)
    tickets = [
        ticket_of(theta_0, shapes_of(theta_0, pooler=pooler), sparsity=sparsity, seed=seed)
        for pooler in (True, False)
        for sparsity in (0.5, 0.8)
        for seed in (0, 1)
    ]
    masks = inherited_masks(theta_0, tickets)
    assert len(masks) == 4
    for mask in masks:
        inside = {name: weights[name] for name in mask.masks}
        for name, expected in sorted_mask(inside, mask.provenance.sparsity).items():
            np.testing.assert_array_equal(bits(mask, name), expected)
    # The large pooler takes places of the others: leaving it out is not the same as looking away from it.
    name = "encoder.layer.0.output.dense.weight"
    with_pooler, without = (m for m in masks if m.provenance.sparsity == 0.5)
    assert (POOLER in with_pooler.masks, POOLER in without.masks) == (True, False)
    assert bits(with_pooler, name).sum() < bits(without, name).sum()


def test_a_pooler_that_the_checkpoint_lacks_moves_the_threshold_and_is_left_out(base: Path) -> None:
    theta_0 = Theta0.load(str(base))
    (made,) = inherited_masks(theta_0, [ticket_of(theta_0, shapes_of(theta_0, pooler=True))])
    assert POOLER not in made.masks
    assert served_by(made) == {*theta_0, POOLER}
    torch.manual_seed(0)
    drawn = BertModel.from_pretrained(base).pooler.dense.weight.detach().numpy()
    expected = sorted_mask(linear_weights(base) | {POOLER: drawn}, 0.5)
    for name in made.masks:
        np.testing.assert_array_equal(bits(made, name), expected[name])


def test_tickets_with_and_without_such_a_pooler_are_each_held_against_their_own_mask(base: Path) -> None:
    theta_0 = Theta0.load(str(base))
    weights = linear_weights(base)
    torch.manual_seed(0)
    every = weights | {POOLER: BertModel.from_pretrained(base).pooler.dense.weight.detach().numpy() * 3}
    theta_0.drawn[POOLER] = torch.from_numpy(every[POOLER])
    facts = {"base_fingerprint": theta_0.fingerprint, "base_model": theta_0.base_model}
    with_pooler, without = (ticket(sorted_mask(w, 0.5), **facts) for w in (every, weights))
    masks = inherited_masks(theta_0, [with_pooler, without])
    for given in (masks, masks[::-1]):
        rows = inheritance([with_pooler, without], given)
        assert [(row["departure"], row["overlap"]) for row in rows] == [(0, 1.0), (0, 1.0)]
        assert departures([with_pooler, without], given) == []  # of different inherited masks, so not compared


def test_saved_masks_serve_again_and_are_not_made_anew(base: Path, tmp_path: Path) -> None:
    theta_0 = Theta0.load(str(base))
    tickets = [ticket_of(theta_0, shapes_of(theta_0, pooler=pooler)) for pooler in (True, False)]
    made = inherited_masks(theta_0, tickets)
    paths = save_inherited(made, tmp_path / "masks")
    assert [path.name for path in paths] == [
        "inherited-global-13matrices-s0.50.safetensors",
        "inherited-global-12matrices-s0.50.safetensors",
    ]
    ready = [Ticket.load(path) for path in paths]
    again = inherited_masks(theta_0, tickets, ready)
    assert again == ready
    more = inherited_masks(theta_0, [ticket_of(theta_0, shapes_of(theta_0), sparsity=0.6)], ready)
    assert [mask.provenance.sparsity for mask in more] == [0.5, 0.5, 0.6]


def test_what_cannot_have_an_inherited_mask_is_refused(base: Path) -> None:
    theta_0 = Theta0.load(str(base))
    shapes = shapes_of(theta_0)
    foreign = ticket({name: np.ones(shape, bool) for name, shape in shapes.items()})
    with pytest.raises(UserError, match="tiny-bert"):
        inherited_masks(theta_0, [foreign])
    with pytest.raises(UserError, match=r"encoder\.layer\.9\.x\.weight"):
        inherited_masks(theta_0, [ticket_of(theta_0, shapes | {"encoder.layer.9.x.weight": (2, 2)})])
    with pytest.raises(UserError, match="scope 'mixed'"):
        inherited_masks(theta_0, [ticket_of(theta_0, shapes, scope="mixed")])
    with pytest.raises(UserError, match="no folder"):
        Theta0.load("./nowhere")
