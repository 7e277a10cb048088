"""A model without memory: the shapes of real ones, and bounds whatever makes a model too large."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, MT5Config, XLMRobertaConfig

from lnsub.common.plain_data import UnreadableError
from lnsub.models.prunable import Coverage
from lnsub.models.skeleton import Skeleton
from tests.support.models import bert_config
from tests.support.tiny_checkpoints import tiny_config

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def test_it_tells_what_the_real_model_is_like():
    real = BertModel(bert_config())
    found = Skeleton.of(bert_config())
    assert (found.parameters, found.vocabulary) == (sum(p.numel() for p in real.parameters()), 60)
    assert (found.positions, found.token_types) == (64, 2)
    assert found.blocks == {
        f"encoder.{name}.weight" for name, m in real.encoder.named_modules() if type(m) is nn.Linear
    }
    assert found.coverage == Coverage(2 * (4 * 16 * 16 + 2 * 16 * 32), 2 * (4 * 16 * 16 + 2 * 16 * 32), ())


@pytest.mark.parametrize(("model_type", "positions"), [("bart", 64), ("mpnet", 64), ("gpt2", 64), ("llama", None)])
def test_positions_are_those_that_there_are_embeddings_of(model_type, positions):
    assert Skeleton.of(tiny_config(model_type)).positions == positions


def test_roberta_has_positions_that_stand_for_padding():
    # 514 embeddings: position ids start after that of the padding token, 1.
    config = XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1, num_hidden_layers=1, **TINY)
    assert Skeleton.of(config).positions == 512


def test_a_model_with_relative_positions_has_no_longest_input():
    found = Skeleton.of(MT5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=50))
    assert (found.vocabulary, found.positions, found.token_types) == (50, None, None)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"num_hidden_layers": 10_000, **TINY}, "more than 50,000 matrices and vectors"),
        ({"hidden_size": 10**7}, "parameters in float32, and this machine's memory has"),
        ({"vocab_size": 10**12}, "parameters in float32"),
        ({"num_hidden_layers": 0}, "no layers"),
        ({"max_position_embeddings": 0}, "no room for any positions"),
    ],
)
def test_what_no_machine_can_make_is_refused(settings, reason):
    with pytest.raises(UnreadableError, match=reason):
        Skeleton.of(BertConfig(**settings))


def test_making_it_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    Skeleton.of(bert_config())
    assert torch.equal(torch.random.get_rng_state(), before)
