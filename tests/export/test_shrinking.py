"""The smaller model gives the masked model's logits, and loads by from_pretrained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BloomConfig,
    DistilBertConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
    T5Config,
)

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.export.shrinking import shrink
from lnsub.models.inherited import Theta0
from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket
from tests.support.exports import logits, saved
from tests.support.ticket_factory import provenance, ticket

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
GATED = SMALL | {"intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 4}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}

MODELS = {
    "bert": (AutoModelForMaskedLM, BertConfig(**SMALL | {"intermediate_size": 24})),
    "distilbert": (AutoModelForMaskedLM, DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=4, hidden_dim=24)),
    "modernbert": (AutoModelForMaskedLM, ModernBertConfig(**SMALL | {"intermediate_size": 24})),
    "gpt2": (AutoModelForCausalLM, GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=4)),
    "llama": (AutoModelForCausalLM, LlamaConfig(**GATED | {"attention_bias": True, "mlp_bias": True})),
    "qwen3": (AutoModelForCausalLM, Qwen3Config(**GATED)),
    "gemma3": (AutoModelForCausalLM, Gemma3TextConfig(**GATED)),
    "qwen3_moe": (AutoModelForCausalLM, Qwen3MoeConfig(**GATED | EXPERTS)),
    "t5": (AutoModelForSeq2SeqLM, T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)),
}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    auto, config = MODELS[name]
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "bias" in parameter_name or parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model


def masked(model: PreTrainedModel, granularity: str, share: float = 0.6) -> tuple[Subnet, Ticket]:
    """Puts a random mask of units on a model."""
    subnet, units, rng = Subnet(model), units_of(model, granularity), np.random.default_rng(1)
    kept = {group.name: rng.random(group.count) < share for group in units.groups}
    kept[units.groups[0].name][:] = False  # a layer that keeps nothing
    bits = units.expanded(kept, subnet.shapes)
    dense = Mask.dense(subnet.shapes)
    subnet.set_mask(Mask(dict(dense) | {name: torch.from_numpy(found) for name, found in bits.items()}))
    return subnet, ticket(bits, granularity=granularity, units=units.to_json())


def predicted(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(1, 31).view(3, 10)
    inputs = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **inputs).logits


WITH_HEADS = ("llama", "qwen3", "gemma3", "qwen3_moe")
"""Types whose configurations have the width of a head apart from the number of heads."""


@pytest.mark.parametrize(
    ("name", "granularity"), [*((name, "neuron") for name in MODELS), *((name, "head") for name in WITH_HEADS)]
)
def test_the_smaller_model_predicts_what_the_masked_one_does(name, granularity, tmp_path):
    model = made(name)
    subnet, found = masked(model, granularity)
    if granularity == "head":
        share = found.units.kept(found.bits())
        assert max(bits.sum() for bits in share.values()) == 1  # of two, so that a smaller model stands for it
    shrunk = shrink(model, subnet, found)
    assert shrunk.parameters[0] < shrunk.parameters[1]
    torch.testing.assert_close(predicted(shrunk.model), predicted(model), rtol=1e-4, atol=1e-5)
    shrunk.model.save_pretrained(tmp_path)
    loaded, info = MODELS[name][0].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(predicted(loaded.eval()), predicted(shrunk.model))


@pytest.mark.parametrize(
    ("model", "granularity"),
    [
        (lambda: made("bert"), "head"),
        (lambda: made("t5"), "head"),
        (
            lambda: AutoModelForCausalLM.from_config(BloomConfig(vocab_size=40, hidden_size=16, n_layer=2, n_head=4)),
            "neuron",
        ),
    ],
    ids=["bert", "t5", "bloom"],
)
def test_what_a_configuration_cannot_say_is_refused(model, granularity):
    whole = model()
    with pytest.raises(UserError, match="configuration cannot say"):
        shrink(whole, *masked(whole, granularity, share=0.3))


def test_nothing_to_cut_is_told():
    model = made("llama")
    subnet, found = masked(model, "neuron")
    kept = {name: bits | True for name, bits in found.units.kept(found.bits()).items()}
    dense = ticket(found.units.expanded(kept, subnet.shapes), granularity="neuron", units=found.provenance.units)
    with pytest.raises(UserError, match="keeps all of its neurons"):
        shrink(model, subnet, dense)
    with pytest.raises(UserError, match="of granularity weight"):
        shrink(model, subnet, ticket(found.bits()))


def test_export_writes_the_smaller_model(theta_0: Theta0, tmp_path: Path):
    model, _ = AutoModelForSequenceClassification.from_pretrained(theta_0.base_model, output_loading_info=True)
    _, found = masked(model, "neuron")
    facts = provenance(base_model=theta_0.base_model, base_fingerprint=theta_0.fingerprint)
    facts = {k: v for k, v in vars(facts).items() if k in {"base_model", "base_fingerprint"}}
    path = ticket(found.bits(), granularity="neuron", units=found.provenance.units, **facts).save(tmp_path / "n.ticket")
    for folder, more in (("whole", []), ("small", ["--shrink"])):
        assert run("export", [str(path), "--output", str(tmp_path / folder), *more]) == 0
    whole, small = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / folder) for folder in ("whole", "small")
    )
    torch.testing.assert_close(logits(small), logits(whole), rtol=1e-4, atol=1e-6)
    assert small.config.intermediate_size < whole.config.intermediate_size
    files = [(tmp_path / folder / "model.safetensors").stat().st_size for folder in ("small", "whole")]
    assert files[0] < files[1]
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"`intermediate_size` {small.config.intermediate_size:,} instead of" in card
    assert "What the zeros are worth" not in card
    plain = saved(tmp_path, theta_0)
    with pytest.raises(UserError, match="only a ticket of neurons or heads stands for a smaller dense model"):
        run("export", [str(plain), "--output", str(tmp_path / "no"), "--shrink"])
    assert not (tmp_path / "no").exists()
