import dataclasses

import pytest
import torch

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.scores import FROM_DATA, SCORES, ScoreInputs, score
from lnsub.pruning.selection import select

NAMES = ("encoder.layer.0.output.dense.weight", "encoder.layer.1.output.dense.weight", "pooler.dense.weight")


@pytest.fixture
def inputs() -> ScoreInputs:
    generator = torch.Generator().manual_seed(0)

    def draw():
        return {name: torch.randn(6, 5 + i, generator=generator) for i, name in enumerate(NAMES)}

    squares = {name: value.square() for name, value in draw().items()}
    inputs = {name: torch.rand(5 + i, generator=generator) for i, name in enumerate(NAMES)}
    return ScoreInputs(draw(), init=draw(), gradients=draw(), squared_gradients=squares, activations=inputs, seed=7)


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_has_the_weights_names_shapes_and_finite_values(name, inputs):
    result = score(name, inputs)
    assert list(result) == list(inputs.weights)
    assert all(result[n].shape == w.shape and result[n].isfinite().all() for n, w in inputs.weights.items())


@pytest.mark.parametrize("name", SCORES)
def test_a_score_needs_exactly_what_it_says(name, inputs):
    needs = SCORES[name].needs
    enough = ScoreInputs(inputs.weights, seed=inputs.seed, **{need: getattr(inputs, need) for need in needs})
    assert equal(score(name, enough), score(name, inputs))
    assert SCORES[name].reads_data == bool(needs & FROM_DATA)
    for need in needs:
        with pytest.raises(ValueError, match=f"needs {need}"):
            score(name, dataclasses.replace(enough, **{need: None}))


def test_magnitude_is_the_weights_themselves_without_a_copy(inputs):
    result = score("magnitude", inputs)
    assert all(result[name].data_ptr() == weight.data_ptr() for name, weight in inputs.weights.items())


def test_magnitude_init_is_theta_0_of_the_weights_parameters_only(inputs):
    more = ScoreInputs(inputs.weights, init={**inputs.init, "classifier.weight": torch.ones(2, 2)})
    assert equal(dict(score("magnitude_init", more)), inputs.init)


def test_taylor_is_weight_times_gradient_as_autograd_has_it():
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    (weight**3).sum().backward()  # gradient 3 w^2
    result = score("taylor", ScoreInputs({"w": weight}, gradients={"w": weight.grad}))["w"]
    assert not result.requires_grad
    assert result.tolist() == [[3.0, -24.0], [81.0, 0.375]]


def test_change_is_the_way_from_theta_0_and_fisher_what_was_gathered():
    trained, theta_0 = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[1.5, 2.0], [-3.0, 1.0]])
    moved = score("change", ScoreInputs({"w": trained}, init={"w": theta_0}))["w"]
    assert moved.tolist() == [[-0.5, 0.0], [3.0, -2.0]]
    mask = select({"w": moved}, Mask.dense({"w": (2, 2)}), 0.5)
    assert mask["w"].tolist() == [[False, False], [True, True]]  # what fine-tuning moved most is kept
    squares = {"w": trained.square()}
    assert torch.equal(score("fisher", ScoreInputs({"w": trained}, squared_gradients=squares))["w"], squares["w"])


def test_random_is_uniform_in_0_excluded_to_1_included():
    values = score("random", ScoreInputs({"w": torch.empty(300, 400)}, seed=3))["w"]
    assert values.min() > 0
    assert values.max() <= 1
    counts = torch.histc(values, bins=10, min=0, max=1)
    # 120,000 draws: each tenth holds 12,000 with a standard deviation of 104.
    assert (counts - 12_000).abs().max() < 5 * 104


def test_random_depends_on_seed_and_name_and_not_on_order_values_or_other_parameters(inputs):
    first = score("random", inputs)
    backwards = {name: torch.zeros_like(inputs.weights[name]) for name in reversed(NAMES)}
    torch.manual_seed(99)
    assert equal(dict(first), dict(sorted(score("random", ScoreInputs(backwards, seed=7)).items())))
    alone = score("random", ScoreInputs({NAMES[1]: inputs.weights[NAMES[1]]}, seed=7))
    assert torch.equal(alone[NAMES[1]], first[NAMES[1]])
    assert not torch.equal(first[NAMES[0]], score("random", ScoreInputs(inputs.weights, seed=8))[NAMES[0]])
    same_shape = score("random", ScoreInputs({"a": torch.empty(4, 4), "b": torch.empty(4, 4)}))
    assert not torch.equal(same_shape["a"], same_shape["b"])


def test_random_is_the_same_in_every_process_and_version():
    # Values of 1 - torch.rand() under the documented seed, the first four bytes of SHA-256, computed here once more.
    import hashlib

    seed = int.from_bytes(hashlib.sha256(b"random:7:pooler.dense.weight").digest()[:4], "little")
    expected = 1 - torch.rand(2, 3, generator=torch.Generator().manual_seed(seed))
    found = score("random", ScoreInputs({"pooler.dense.weight": torch.empty(2, 3)}, seed=7))["pooler.dense.weight"]
    assert torch.equal(found, expected)


def test_a_random_mask_in_rounds_is_the_one_shot_mask(inputs):
    dense = Mask.dense({name: weight.shape for name, weight in inputs.weights.items()})
    mask = dense
    for sparsity in (0.2, 0.4, 0.6):
        mask = select(score("random", inputs), mask, sparsity)
        assert mask == select(score("random", inputs), dense, sparsity)


def test_a_missing_or_misshapen_parameter_is_refused_and_named(inputs):
    init = dict(inputs.init)
    lost = init.pop(NAMES[1])
    with pytest.raises(ValueError, match=f"init of '{NAMES[1]}' is missing"):
        score("magnitude_init", ScoreInputs(inputs.weights, init=init))
    with pytest.raises(ValueError, match=rf"gradients of '{NAMES[1]}' has shape \(6, 5\), its weights \(6, 6\)"):
        score("taylor", ScoreInputs(inputs.weights, gradients={**inputs.gradients, NAMES[1]: lost[:, :5]}))


def test_activations_have_one_number_for_each_input_feature(inputs):
    assert {name: tuple(v.shape) for name, v in inputs.beside_weights("activations").items()} == {
        name: (5 + i,) for i, name in enumerate(NAMES)
    }
    with pytest.raises(ValueError, match=r"activations of .* has shape \(6, 5\)"):
        dataclasses.replace(inputs, activations=inputs.weights).beside_weights("activations")


def test_an_unknown_score_is_refused_with_all_names_and_the_closest(inputs):
    with pytest.raises(UserError, match=r"did you mean magnitude\?.*random, magnitude_init, change, taylor, fisher"):
        score("magnitud", inputs)
