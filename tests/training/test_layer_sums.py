"""Sums over single examples, worked out by hand on two linear layers, and for layers that are used in odd ways."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lnsub.common.errors import UserError
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.training.layer_sums import LayerSums

NEEDS: Any = frozenset({"squared_gradients", "activations"})


class Layers(nn.Module):
    """Linear layers without biases, used as ``use`` says."""

    def __init__(self, use: Callable[[nn.ModuleList, Tensor], Tensor], *weights: list[list[float]]) -> None:
        super().__init__()
        self.use = use
        self.layer = nn.ModuleList(nn.Linear(len(rows[0]), len(rows), bias=False) for rows in weights)
        for layer, rows in zip(self.layer, weights, strict=True):
            layer.weight.data = torch.tensor(rows)

    def forward(self, states: Tensor) -> Tensor:
        return self.use(self.layer, states)

    @property
    def weights(self) -> dict[str, Tensor]:
        return {f"layer.{i}.weight": layer.weight for i, layer in enumerate(self.layer)}


def summed(model: Layers, states: Tensor, tokens: Tensor, loss: Callable[[Tensor], Tensor]) -> LayerSums:
    """One pass over a batch."""
    sums = LayerSums(model, model.weights, NEEDS)
    with sums.recording():
        sums.start([tokens])
        loss(model(states)).backward()
        sums.finish()
    return sums


def one_by_one(model: Layers, states: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The sum of squared gradients by a backward pass for each example."""
    squares = {name: torch.zeros_like(weight) for name, weight in model.weights.items()}
    for example in states:
        gradients = torch.autograd.grad(loss(model(example[None])), list(model.weights.values()))
        for name, gradient in zip(squares, gradients, strict=True):
            squares[name] += gradient**2
    return squares


def chain(layers: nn.ModuleList, states: Tensor) -> Tensor:
    for layer in layers:
        states = layer(states)
    return states


def test_two_layers_have_the_values_worked_out_by_hand():
    """f(x) = V W x and log p(y | x) = -(y - f)^2 / 2, whose gradients are r V^T x^T for W and r (W x)^T for V.

    W = [[1, 2], [0, -1]], V = [[1, -1]].
    x = (1, 1),  y = 4: W x = (3, -1), f = 4,  r = 0:  both gradients are 0.
    x = (2, 0),  y = 3: W x = (2, 0),  f = 2,  r = 1:  W's is [[2, 0], [-2, 0]],   V's is [[2, 0]].
    x = (0, 1),  y = 1: W x = (2, -1), f = 3,  r = -2: W's is [[0, -2], [0, 2]],   V's is [[-4, 2]].
    x = (1, -1), y = 0: W x = (-1, 1), f = -2, r = 2:  W's is [[2, -2], [-2, 2]],  V's is [[-2, 2]].
    The means of their squares over the four examples are [[2, 2], [2, 2]] and [[6, 2]]; the mean squares of what the
    layers are given are (6, 3) / 4 and (18, 3) / 4.
    """
    model = Layers(chain, [[1.0, 2.0], [0.0, -1.0]], [[1.0, -1.0]])
    x = torch.tensor([[[1.0, 1.0]], [[2.0, 0.0]], [[0.0, 1.0]], [[1.0, -1.0]]])  # [examples, tokens, features]
    y = torch.tensor([4.0, 3.0, 1.0, 0.0])
    sums = summed(model, x, torch.ones(4, 1, dtype=torch.bool), lambda f: ((y - f[:, 0, 0]) ** 2 / 2).sum())
    squares = {name: total / 4 for name, total in sums.squares.items()}
    weights = {name: weight.detach() for name, weight in model.weights.items()}
    information = score("fisher", ScoreInputs(weights, squared_gradients=squares))
    assert information["layer.0.weight"].tolist() == [[2, 2], [2, 2]]
    assert information["layer.1.weight"].tolist() == [[6, 2]]
    assert (sums.inputs["layer.0.weight"] / sums.tokens["layer.0.weight"]).tolist() == [1.5, 0.75]
    assert (sums.inputs["layer.1.weight"] / sums.tokens["layer.1.weight"]).tolist() == [4.5, 0.75]
    assert sums.seen == {"layer.0.weight": 1, "layer.1.weight": 1}


def test_a_layer_may_be_called_twice_and_its_gradients_are_added_before_they_are_squared():
    def twice(layers: nn.ModuleList, states: Tensor) -> Tensor:
        return layers[0](layers[0](states).tanh())

    torch.manual_seed(0)
    model = Layers(twice, torch.randn(3, 3).tolist())
    states = torch.randn(4, 5, 3)
    sums = summed(model, states, torch.ones(4, 5, dtype=torch.bool), lambda f: f.sin().sum())
    expected = one_by_one(model, states, lambda f: f.sin().sum())
    torch.testing.assert_close(sums.squares, expected)
    assert sums.tokens["layer.0.weight"] == 2 * 20


def test_tokens_may_be_flattened_and_one_vector_may_stand_for_an_example():
    def flattened(layers: nn.ModuleList, states: Tensor) -> Tensor:
        inner = layers[0](states.flatten(0, 1)).tanh().unflatten(0, states.shape[:2])
        return layers[1](inner[:, 0])

    torch.manual_seed(0)
    model = Layers(flattened, torch.randn(3, 2).tolist(), torch.randn(2, 3).tolist())
    states = torch.randn(4, 5, 2)
    tokens = torch.arange(5) < torch.tensor([5, 4, 2, 1])[:, None]
    sums = summed(model, states, tokens, lambda f: f.sin().sum())
    torch.testing.assert_close(sums.squares, one_by_one(model, states, lambda f: f.sin().sum()))
    assert {name: int(count) for name, count in sums.tokens.items()} == {"layer.0.weight": 12, "layer.1.weight": 4}
    torch.testing.assert_close(sums.inputs["layer.0.weight"].float(), states[tokens].square().sum(0))


def test_a_layer_that_mixes_examples_is_refused_by_name():
    def mixed(layers: nn.ModuleList, states: Tensor) -> Tensor:
        return layers[0](states.flatten(0, 1)[:7])

    model = Layers(mixed, [[1.0, 2.0]])
    with pytest.raises(UserError, match=r"layer\.0\.weight is given 7 vectors for 4 examples of 5 tokens.*than fisher"):
        summed(model, torch.ones(4, 5, 2), torch.ones(4, 5, dtype=torch.bool), lambda f: f.sum())


def test_the_hooks_are_taken_off_whatever_happens():
    model = Layers(chain, [[1.0, 2.0]])
    with pytest.raises(KeyError), LayerSums(model, model.weights, NEEDS).recording():
        raise KeyError
    assert not model.layer[0]._forward_hooks
