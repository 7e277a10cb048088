"""Which models read from left to right, and heads for those that transformers has none of."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertGenerationConfig,
    Gemma3TextConfig,
    Gemma3TextModel,
    MBartConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMConfig,
    XLNetConfig,
    XmodConfig,
)

from lnsub.models.architecture import reads_left_to_right
from lnsub.models.heads import add_missing_head, is_added
from tests.support.decoders import decoder_config

BOTH_WAYS = [
    BertConfig(),
    RobertaConfig(),
    XmodConfig(),
    XLMConfig(),
    XLNetConfig(),
    BertGenerationConfig(),
    MBartConfig(),
    Gemma3TextConfig(use_bidirectional_attention=True),  # EmbeddingGemma
]
LEFT_TO_RIGHT = [
    *(decoder_config(kind, 50) for kind in ("qwen3", "llama", "bloom", "gemma3", "xglm")),
    BertConfig(is_decoder=True),
    BertGenerationConfig(is_decoder=True),
    XLMConfig(causal=True),
]


@pytest.mark.parametrize("config", BOTH_WAYS, ids=lambda config: config.model_type)
def test_models_that_read_in_both_directions(config: PretrainedConfig) -> None:
    assert not reads_left_to_right(config)


@pytest.mark.parametrize("config", LEFT_TO_RIGHT, ids=lambda config: config.model_type)
def test_models_that_read_from_left_to_right(config: PretrainedConfig) -> None:
    assert reads_left_to_right(config)


@pytest.mark.parametrize("kind", ["qwen3", "gemma3", "xglm", "bloom"])
def test_what_reads_from_left_to_right_does_not_see_what_follows(kind: str) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(decoder_config(kind, 50), attn_implementation="eager").eval()
    states = [model(torch.tensor([[5, 6, 7, last]])).last_hidden_state[0, :3] for last in (8, 9)]
    torch.testing.assert_close(*states)


@pytest.mark.parametrize("kind", ["gemma3", "xglm"])
def test_an_added_head_is_a_linear_layer_on_the_bare_model_and_loads_again(kind: str, tmp_path) -> None:
    config = decoder_config(kind, 50)
    config.num_labels = 3
    config.id2label = {0: "a", 1: "b", 2: "c"}
    add_missing_head(AutoModelForTokenClassification, config)
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(config, attn_implementation="eager").eval()
    assert is_added(model)
    ids = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    expected = model.score(model.base_model(**inputs).last_hidden_state)
    assert torch.equal(model(**inputs).logits, expected)
    model.save_pretrained(tmp_path)
    add_missing_head(AutoModelForTokenClassification, AutoConfig.from_pretrained(tmp_path))
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert torch.equal(loaded(**inputs).logits, expected)
    bare = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(bare.state_dict()[name], value) for name, value in model.base_model.state_dict().items())


def test_no_head_is_added_where_there_is_one_or_to_what_is_no_decoder() -> None:
    before = AutoModelForSequenceClassification._model_mapping[Gemma3TextConfig]
    add_missing_head(AutoModelForSequenceClassification, Gemma3TextConfig())
    assert AutoModelForSequenceClassification._model_mapping[Gemma3TextConfig] is before
    add_missing_head(AutoModel, Gemma3TextConfig())
    assert AutoModel._model_mapping[Gemma3TextConfig] is Gemma3TextModel
    add_missing_head(AutoModelForTokenClassification, MBartConfig())
    with pytest.raises(ValueError, match="Unrecognized configuration"):
        AutoModelForTokenClassification.from_config(MBartConfig())
