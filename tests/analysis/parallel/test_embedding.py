"""Embeddings from a live model: pooling, padding, layers, and the mask on theta_0."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM

from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.common.errors import UserError
from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from tests.support.sentence_models import WORDS, make_base, ticket_of

SENTENCES = [
    "w1",
    "w2 w3 w4 w5 w6 w7 w8 w9",
    "w3 w1",
    "w9 w9 w9 w9 w9",
    "w20 w21 w22 w23 w24 w25 w26 w27 w28 w29 w1 w2",
]
LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def encoder(base: str) -> SentenceEncoder:
    return SentenceEncoder(base, "cpu")


def test_padding_does_not_change_an_embedding(encoder):
    tokens = encoder.tokenise(SENTENCES)
    for pooling in ("mean", "first"):
        together = encoder.embed(tokens, LAYERS, pooling, batch_tokens=1000)
        alone = torch.cat([encoder.embed(encoder.tokenise([s]), LAYERS, pooling) for s in SENTENCES], dim=1)
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        in_batches = encoder.embed(tokens, LAYERS, pooling, batch_tokens=20)
        torch.testing.assert_close(together, in_batches, rtol=1e-4, atol=1e-5)


def test_embeddings_are_the_means_and_the_first_of_the_models_own_hidden_states(base, encoder):
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base).eval()
    means, firsts = (encoder.embed(encoder.tokenise(SENTENCES), (2, 0), pooling) for pooling in ("mean", "first"))
    for row, sentence in enumerate(SENTENCES):
        with torch.no_grad():
            states = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True).hidden_states
        for place, layer in enumerate((2, 0)):
            torch.testing.assert_close(means[place, row], states[layer][0].mean(dim=0), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(firsts[place, row], states[layer][0, 0], rtol=1e-4, atol=1e-5)


def test_a_ticket_that_keeps_everything_is_the_dense_model_and_another_is_not(base, encoder):
    tokens = encoder.tokenise(SENTENCES)
    dense = encoder.embed(tokens, LAYERS)
    encoder.apply_ticket(ticket_of(base, lambda w: torch.ones_like(w, dtype=torch.bool)))
    assert torch.equal(encoder.embed(tokens, LAYERS), dense)
    encoder.apply_ticket(ticket_of(base, lambda w: w > 0))
    pruned = encoder.embed(tokens, LAYERS)
    assert torch.equal(pruned[0], dense[0])  # the embeddings are never pruned
    assert not torch.allclose(pruned[1], dense[1], atol=1e-3)


def test_a_mask_is_the_same_as_zeros_in_the_checkpoint_and_tickets_do_not_add_up(base, encoder, tmp_path):
    """Each ticket is applied to theta_0, also after another one that pruned what it keeps."""
    tokens = encoder.tokenise(SENTENCES)
    dense = encoder.embed(tokens, LAYERS)
    encoder.apply_ticket(ticket_of(base, lambda w: w <= 0))
    encoder.apply_ticket(ticket_of(base, lambda w: w > 0))
    model = BertForMaskedLM.from_pretrained(base)
    with torch.no_grad():
        for entry in prunable(model).values():
            entry.parameter.clamp_(min=0)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    assert torch.equal(encoder.embed(tokens, LAYERS), SentenceEncoder(str(tmp_path), "cpu").embed(tokens, LAYERS))
    encoder.apply_ticket(None)
    assert torch.equal(encoder.embed(tokens, LAYERS), dense)


def test_a_ticket_of_another_base_model_is_refused(base, encoder, tmp_path):
    other = make_base(tmp_path, seed=1)
    with pytest.raises(UserError, match=r"was found in tiny-bert .* but the base model here is"):
        encoder.apply_ticket(ticket_of(other, lambda w: w > 0))


def test_of_an_encoder_decoder_the_encoder_embeds(mt5):
    encoder = SentenceEncoder(mt5, "cpu")
    found = encoder.embed(encoder.tokenise(["the cat sat on a mat", "a dog"]), range(encoder.layers + 1))
    assert found.shape == (3, 2, 16)
    assert torch.isfinite(found).all()
    assert encoder.fingerprint == Subnet(AutoModel.from_pretrained(mt5)).fingerprint()


def test_long_sentences_are_cut_to_what_the_model_takes(encoder):
    tokens = encoder.tokenise([" ".join(WORDS * 10), "w1"])
    assert tokens.lengths.tolist() == [64, 3]
    encoder.embed(tokens, LAYERS)


def test_loading_leaves_the_callers_random_numbers_alone(base):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SentenceEncoder(base, "cpu")
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_device_is_one_sentence(base):
    with pytest.raises(UserError, match="There is no device 'abacus' here"):
        SentenceEncoder(base, "abacus")
