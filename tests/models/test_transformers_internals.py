"""Each private name of transformers is there and does what lnsub takes it for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForTokenClassification,
    BertForTokenClassification,
    BertModel,
    MT5Config,
)

from lnsub.models.transformers_internals import (
    attention_of,
    expert_activation,
    has_class_for,
    knows_experts,
    knows_sdpa,
)
from tests.support.models import bert_config
from tests.support.tiny_checkpoints import tiny_config


def test_an_auto_class_knows_the_models_that_it_makes():
    assert has_class_for(AutoModelForTokenClassification, bert_config())
    assert not has_class_for(AutoModelForSeq2SeqLM, bert_config())
    assert has_class_for(AutoModelForSeq2SeqLM, MT5Config())
    made = AutoModelForTokenClassification.from_config(bert_config())
    assert isinstance(made, BertForTokenClassification)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_model_tells_its_attention(name):
    model = BertModel._from_config(bert_config(), attn_implementation=name)
    assert attention_of(model) == name
    model.set_attn_implementation({"eager": "sdpa", "sdpa": "eager"}[name])
    assert attention_of(model) != name


@pytest.mark.parametrize(("model_type", "known"), [("bert", True), ("bloom", False), ("funnel", False)])
def test_types_without_sdpa_are_those_that_transformers_refuses(model_type, known):
    assert knows_sdpa(AutoModel, tiny_config(model_type)) == known
    if known:
        AutoModel.from_config(tiny_config(model_type), attn_implementation="sdpa")
    else:
        with pytest.raises(ValueError, match="scaled_dot_product_attention"):
            AutoModel.from_config(tiny_config(model_type), attn_implementation="sdpa")


def test_experts_gate_what_their_first_projection_gives():
    experts = AutoModel.from_config(tiny_config("mixtral")).layers[0].mlp.experts
    assert knows_experts(experts)
    assert not knows_experts(nn.Linear(2, 2))
    projected = torch.randn(3, 48)
    expected = F.silu(projected[:, :24]) * projected[:, 24:]
    torch.testing.assert_close(expert_activation(experts, projected), expected)
