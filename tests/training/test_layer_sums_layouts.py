"""Sums over single examples for weights that are not [out, in]: GPT-2's Conv1D and stacked experts, beside autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import AutoModel

from lnsub.common.errors import UserError
from lnsub.models.prunable import prunable
from lnsub.training.layer_sums import LayerSums
from tests.support.tiny_checkpoints import tiny_config

NEEDS: Any = frozenset({"squared_gradients", "activations"})


def _model(model_type: str) -> nn.Module:
    torch.manual_seed(0)
    model = AutoModel.from_config(tiny_config(model_type)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def _batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    return {"input_ids": torch.randint(5, 30, (3, 6), generator=generator), "attention_mask": mask.long()}


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Depends on the tokens and not on the padding, and is a sum over examples."""
    return (model(**batch).last_hidden_state.sin() * batch["attention_mask"][..., None]).sum()


def _sums(model: nn.Module, needs: Any = NEEDS) -> LayerSums:
    batch = _batch()
    weights = {name: entry.parameter for name, entry in prunable(model).items()}
    sums = LayerSums(model, weights, needs)
    with sums.recording():
        sums.start([batch["attention_mask"].bool()])
        _loss(model, batch).backward()
        sums.finish()
    return sums


@pytest.mark.parametrize("model_type", ["gpt2", "mixtral", "qwen3_moe", "llama", "albert"])
def test_squares_are_those_of_a_backward_pass_for_each_example(model_type):
    model = _model(model_type)
    sums = _sums(model)
    batch = _batch()
    entries = prunable(model)
    expected = {name: torch.zeros_like(entry.parameter) for name, entry in entries.items()}
    for row in range(3):
        model.zero_grad()
        _loss(model, {name: values[row : row + 1] for name, values in batch.items()}).backward()
        for name, entry in entries.items():
            expected[name] += 0 if entry.parameter.grad is None else entry.parameter.grad**2
    for name, squares in sums.squares.items():
        torch.testing.assert_close(squares, expected[name], rtol=1e-4, atol=1e-5 * expected[name].max().item())
        assert sums.seen[name] == (0 if name.startswith("pooler") else 1)


def test_a_conv1d_is_given_what_the_linear_layer_of_the_transposed_weight_is_given():
    model = _model("gpt2")
    sums = _sums(model)
    given: dict[str, Tensor] = {}
    layer = model.get_submodule("h.1.mlp.c_proj")
    handle = layer.register_forward_pre_hook(lambda _, inputs: given.update(states=inputs[0].detach()))
    batch = _batch()
    model(**batch)
    handle.remove()
    tokens = given["states"][batch["attention_mask"].bool()].double()
    torch.testing.assert_close(sums.inputs["h.1.mlp.c_proj.weight"], (tokens**2).sum(0), rtol=1e-5, atol=1e-8)
    assert sums.inputs["h.1.mlp.c_proj.weight"].shape == (64,)
    assert sums.tokens["h.1.mlp.c_proj.weight"] == 11


def test_each_expert_is_given_the_tokens_that_its_router_sends_it():
    """By the formulas of a mixture of experts alone, from the router's logits on."""
    model = _model("qwen3_moe")
    given: dict[str, Tensor] = {}
    block = model.get_submodule("layers.1.mlp")
    handle = block.register_forward_pre_hook(lambda _, inputs: given.update(states=inputs[0].detach()))
    sums = _sums(model)
    handle.remove()
    states = given["states"][_batch()["attention_mask"].bool()]  # [tokens, hidden]
    chosen = (states @ block.gate.weight.T).softmax(-1).topk(2).indices
    for expert in range(4):
        mine = states[(chosen == expert).any(1)]
        gate, up = (mine @ block.experts.gate_up_proj[expert].T).detach().chunk(2, -1)
        inner = F.silu(gate) * up
        for name, vectors in (("gate_up_proj", mine), ("down_proj", inner)):
            full = f"layers.1.mlp.experts.{name}"
            torch.testing.assert_close(sums.inputs[full][expert], (vectors.double() ** 2).sum(0), rtol=1e-4, atol=1e-7)
            assert sums.tokens[full][expert] == len(mine)


def test_stacked_weights_that_are_no_known_experts_are_refused_by_name():
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.ones(2, 3, 4))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Stack()])

    model = Model()
    with pytest.raises(UserError, match=r"What layers\.0\.gate_up_proj is given cannot .* a Stack: choose a score"):
        LayerSums(model, {"layers.0.gate_up_proj": model.layers[0].gate_up_proj}, NEEDS)
