"""Units of live models: taking one away must be what taking away its output alone is, in every layout."""

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    BertModel,
    BloomConfig,
    DistilBertConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MixtralConfig,
    ModernBertConfig,
    Phi3Config,
    T5Config,
    T5Model,
    XGLMConfig,
)

from lnsub.common.errors import UserError
from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.pruning.granularity import with_units
from lnsub.pruning.masks import Mask
from tests.support.models import bert_config

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
GATED = SMALL | {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4}

MODELS = {
    "bert": lambda: BertModel(bert_config()),
    "distilbert": lambda: AutoModel.from_config(
        DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=4, hidden_dim=24)
    ),
    "albert": lambda: AlbertModel(AlbertConfig(**SMALL | {"embedding_size": 8, "intermediate_size": 24})),
    "modernbert": lambda: AutoModel.from_config(ModernBertConfig(**SMALL | {"intermediate_size": 24})),
    "gpt2": lambda: AutoModel.from_config(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=4)),
    "bloom": lambda: AutoModel.from_config(BloomConfig(vocab_size=40, hidden_size=16, n_layer=2, n_head=4)),
    "xglm": lambda: AutoModel.from_config(
        XGLMConfig(vocab_size=40, d_model=16, num_layers=2, attention_heads=4, ffn_dim=24)
    ),
    "llama": lambda: AutoModel.from_config(LlamaConfig(**GATED)),
    "gemma3": lambda: AutoModel.from_config(Gemma3TextConfig(**GATED)),
    "phi3": lambda: AutoModel.from_config(Phi3Config(**{k: v for k, v in GATED.items() if k != "head_dim"})),
    "mixtral": lambda: AutoModel.from_config(MixtralConfig(**GATED | {"num_local_experts": 3})),
    "t5": lambda: T5Model(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)),
}


def output(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(1, 31).view(3, 10)
    inputs = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **inputs).last_hidden_state


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    found = MODELS[request.param]().eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if "bias" in name or parameter.dim() > 1:  # so that biases matter, and what is taken away is seen
                parameter.normal_(std=0.3)
    return found


@pytest.mark.parametrize("granularity", ["neuron", "head"])
def test_taking_units_away_is_taking_their_output_away(model, granularity):
    units = units_of(model, granularity)
    subnet = Subnet(model)
    before, original = output(model), subnet.snapshot()
    found = prunable(model)
    for group in (units.groups[0], units.groups[-1]):
        kept = {other.name: torch.ones(other.count, dtype=torch.bool).numpy() for other in units.groups}
        kept[group.name][1::2] = False
        # All weights of the units: what computes them, and what reads them.
        subnet.set_mask(with_units(Mask.dense(subnet.shapes), kept, units))
        whole = output(model)
        subnet.rewind(original, mask=Mask.dense(subnet.shapes))
        # Only what reads them.
        for member in group.members:
            entry = found[member.parameter]
            if member.axis == entry.inputs:
                weight = entry.parameter.data if member.expert is None else entry.parameter.data[member.expert]
                axis = member.axis - (member.expert is not None)
                of = torch.from_numpy(member.positions(group.count, weight.shape[axis]))
                weight.index_fill_(axis, (of % 2 == 1).nonzero().squeeze(1), 0.0)
        reading = output(model)
        subnet.rewind(original)
        torch.testing.assert_close(whole, reading, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(whole, before, atol=1e-3), group.name


def test_units_count_as_the_configuration_says():
    llama = MODELS["llama"]()
    assert [group.count for group in units_of(llama, "neuron").groups] == [24, 24]
    assert [group.count for group in units_of(llama, "head").groups] == [2, 2]  # keys and values are shared by two
    assert [group.name for group in units_of(llama, "head").groups] == ["layers.0.self_attn", "layers.1.self_attn"]
    experts = units_of(MODELS["mixtral"](), "neuron").groups
    assert len(experts) == 2 * 3
    assert {group.count for group in experts} == {24}
    assert len(units_of(MODELS["t5"](), "head").groups) == 2 + 2 * 2  # self and cross attention
    rows = units_of(MODELS["gpt2"](), "row")
    assert rows.shapes["h.0.attn.c_attn.weight"] == (48,)  # stored as [in, out]


def test_each_weight_is_of_one_unit_at_most_and_every_prunable_one_of_a_row(model):
    shapes = Subnet(model).shapes
    for granularity in ("neuron", "head", "row"):
        units = units_of(model, granularity)
        covered = sum(int(size.sum()) for size in units.sizes(shapes).values())
        total = sum(Mask.dense(shapes)[name].numel() for name in units.parameters)
        assert covered == total, granularity
        none = {group.name: torch.zeros(group.count, dtype=torch.bool).numpy() for group in units.groups}
        masks = units.expanded(none, shapes)
        assert not any(bits.any() for bits in masks.values())


def test_weights_have_no_units_and_a_model_without_heads_is_told():
    assert units_of(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)), "weight") is None
    with pytest.raises(UserError, match="granularity"):
        units_of(MODELS["bert"](), "neurons")
