"""Which parameters may be pruned, in the layouts that models have beside nn.Linear."""

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertForMaskedLM,
    BloomConfig,
    BloomModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lnsub.models.prunable import coverage, prunable
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from tests.support.models import bert_config

MOE = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 4}
MOE |= {
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "moe_intermediate_size": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 30}


def test_gpt2s_convolutions_are_linear_layers_with_the_axes_the_other_way_round():
    model = GPT2Model(GPT2Config(**GPT2))
    found = prunable(model)
    assert len(found) == 2 * 4
    entry = found["h.0.attn.c_attn.weight"]
    assert entry.parameter.shape == (16, 48)
    assert (entry.outputs, entry.inputs) == (1, 0)
    assert coverage(model).left_out == ()


def test_stacked_experts_are_prunable_and_routers_are_not():
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**MOE))
    found = prunable(model)
    stacked = found["layers.1.mlp.experts.gate_up_proj"]
    assert stacked.parameter.shape == (4, 16, 16)
    assert (stacked.outputs, stacked.inputs) == (1, 2)
    assert found["layers.1.mlp.experts.down_proj"].parameter.shape == (4, 16, 8)
    assert not any("mlp.gate" in name for name in found)
    blocks = sum(p.numel() for n, p in model.model.layers.named_parameters() if p.dim() > 1 and ".gate.weight" not in n)
    assert coverage(model).prunable == coverage(model).total == blocks
    subnet = Subnet(model)
    mask = Mask({name: torch.rand(shape) < 0.5 for name, shape in subnet.shapes.items()})
    subnet.set_mask(mask)
    ids = torch.arange(12).view(2, 6)
    model(ids, labels=ids).loss.backward()
    subnet.mask_gradients()
    for name, weight in subnet.weights.items():
        assert not weight.detach()[~mask[name]].any()
        assert not weight.grad[~mask[name]].any()
    assert "model.layers.1.mlp.experts.gate_up_proj" in subnet.snapshot()
    assert not any("mask" in name for name in subnet.snapshot())


def test_alberts_shared_layers_count_once_and_its_pooler_too():
    config = AlbertConfig(hidden_size=16, embedding_size=8, intermediate_size=24, num_attention_heads=4, vocab_size=30)
    found = prunable(AlbertModel(config))  # 12 layers that share their weights
    assert len(found) == 6 + 1
    assert "pooler.weight" in found


def test_blooms_fused_matrices_and_nothing_else():
    found = prunable(BloomModel(BloomConfig(hidden_size=16, n_layer=2, n_head=4, vocab_size=30)))
    assert len(found) == 2 * 4
    assert not any("norm" in name or "embed" in name for name in found)


def test_what_cannot_be_pruned_is_told():
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1, bias=False))])
    found = coverage(model)
    assert (found.prunable, found.total, found.left_out) == (16, 32, ("layers.0.1.weight",))


@pytest.mark.parametrize(
    "model",
    [
        BertForMaskedLM(bert_config()),
        GPT2LMHeadModel(GPT2Config(**GPT2)),
        T5ForConditionalGeneration(T5Config(vocab_size=30, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)),
    ],
    ids=["bert", "gpt2", "t5"],
)
def test_an_output_layer_tied_to_the_embeddings_is_of_the_base_model(model):
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    trained = embeddings.detach().clone()
    subnet.rewind(theta_0, base=False, head=True)
    assert torch.equal(embeddings, trained)
    subnet.rewind(theta_0, base=True, head=False)
    assert not torch.equal(embeddings, trained)
