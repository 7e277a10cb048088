"""A narrowed vocabulary computes what the whole one does, and comes back with all other rows as they were."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
)

from lnsub.models.packing import pack
from lnsub.models.subnet import Subnet
from lnsub.models.vocabulary import Vocabulary, rows_in, unnarrowed
from tests.support.models import bert_classifier, bert_config
from tests.support.tiny_checkpoints import tiny_config

USED = np.array([2, 5, 9, 17, 30])
PAD = 0


def classifier(kind: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = tiny_config(kind, num_labels=3)
    config.pad_token_id = PAD
    return AutoModelForSequenceClassification.from_config(config).train(False)


def batch() -> dict[str, Tensor]:
    """Rows of used tokens, the second padded."""
    ids = torch.tensor([[2, 5, 30, 17, 9], [9, 2, 17, PAD, PAD]])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def trained(
    model: PreTrainedModel, kind: dict[str, Any], clip: float = 1e9, *, narrow: bool = False
) -> tuple[Tensor, list[float]]:
    """Five steps of AdamW on a classifier; its whole embeddings, and the gradients' norms."""
    vocabulary = Vocabulary(model)
    if narrow:
        vocabulary.narrow(USED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, **kind)
    norms = []
    for step in range(5):
        loss = model(**batch(), labels=torch.tensor([step % 3, 1])).loss
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
    vocabulary.widen()
    return model.get_input_embeddings().weight.detach(), norms


@pytest.mark.parametrize("clip", [1e9, 0.1])
@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
def test_adamw_leaves_other_rows_alone_and_moves_those_in_use_as_ever(kind, clip):
    before = bert_classifier().get_input_embeddings().weight.detach()
    whole, norms = trained(bert_classifier(), kind, clip)
    narrow, narrow_norms = trained(bert_classifier(), kind, clip, narrow=True)
    others = np.setdiff1d(np.arange(60), [*USED, PAD])
    assert torch.equal(whole[others], before[others])  # without which there would be nothing to leave out
    assert not torch.equal(whole[USED], before[USED])
    assert torch.equal(narrow, whole)
    assert narrow_norms == norms


def test_where_the_width_is_no_multiple_of_the_vectors_the_norm_differs_by_rounding():
    config = bert_config()
    config.hidden_size, config.num_attention_heads = 13, 1
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    _, narrow = trained(copy.deepcopy(model), {"fused": True}, 0.1, narrow=True)
    _, whole = trained(model, {"fused": True}, 0.1)
    assert narrow == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    "kind", ["bert", "xlm-roberta", "rembert", "modernbert", "gemma3_text", "bloom", "llama", "xlm"]
)
def test_a_model_computes_the_same_from_the_rows_in_use(kind):
    """Gemma scales its embeddings in a class of its own; RoBERTa's positions depend on the tokens."""
    model = classifier(kind)
    vocabulary = Vocabulary(model)
    expected = model(**batch()).logits
    assert vocabulary.obstacle is None
    vocabulary.narrow(np.array([PAD, *USED]))  # Bloom's embeddings know of no padding
    assert len(model.get_input_embeddings().weight) == len(USED) + 1
    assert torch.equal(model(**batch()).logits, expected)
    vocabulary.widen()
    assert torch.equal(model(**batch()).logits, expected)


def test_padding_has_no_gradient_in_either():
    model = bert_classifier()
    vocabulary = Vocabulary(model)
    vocabulary.narrow(USED)
    model(**batch(), labels=torch.tensor([0, 1])).loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient is not None
    assert (gradient.abs().sum(1) == 0).tolist() == [True] + [False] * len(USED)
    vocabulary.widen()
    assert model.get_input_embeddings().padding_idx == PAD


def test_packed_sequences_are_looked_up_too():
    model = bert_classifier().train(False)
    pack(model)
    expected = model(**batch()).logits
    Vocabulary(model).narrow(USED)
    assert torch.equal(model(**batch()).logits, expected)


def test_a_token_without_a_row_is_an_error():
    model = bert_classifier()
    Vocabulary(model).narrow(USED)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[2, 3]]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: BertForMaskedLM(bert_config()), "other layers"),
        (lambda: classifier("mt5"), "other layers"),
        (lambda: classifier("mbart"), "other layers"),
        (lambda: AutoModelForCausalLM.from_config(tiny_config("gemma3_text")), "other layers"),
        (lambda: classifier("canine"), "no rows"),
        (lambda: bert_classifier().requires_grad_(False), "not trained"),
    ],
)
def test_what_others_use_stays_whole(model, reason):
    vocabulary = Vocabulary(model())
    assert reason in (vocabulary.obstacle or "")
    with pytest.raises(ValueError, match=reason):
        vocabulary.narrow(USED)


def test_an_untied_decoder_is_narrowed():
    config = tiny_config("gemma3_text", tie_word_embeddings=False)
    assert Vocabulary(AutoModelForCausalLM.from_config(config)).obstacle is None


def test_the_parameters_are_the_same_objects_in_every_round():
    model = bert_classifier()
    embedding, vocabulary = model.get_input_embeddings(), Vocabulary(model)
    whole = embedding.weight
    vocabulary.narrow(USED)
    rows, place, row_of = embedding.weight, embedding.weight.data_ptr(), embedding.row_of
    assert [name for name, _ in model.named_parameters()] == [n for n, _ in bert_classifier().named_parameters()]
    vocabulary.widen()
    assert embedding.weight is whole
    assert not any("row" in name for name in model.state_dict())
    vocabulary.narrow(USED)
    assert embedding.weight is rows
    assert embedding.weight.data_ptr() == place
    assert embedding.row_of is row_of


def test_rows_of_an_earlier_fit_of_the_model_stay_in_use():
    vocabulary = Vocabulary(bert_classifier())
    vocabulary.narrow(USED)
    vocabulary.widen()
    vocabulary.narrow(np.array([3, 5]))
    assert vocabulary.wanted.tolist() == [0, 2, 3, 5, 9, 17, 30]


def test_the_precision_that_converts_parameters_converts_the_others_too():
    model = bert_classifier()
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary = Vocabulary(model)
    vocabulary.narrow(USED)
    model.bfloat16()
    vocabulary.widen()
    assert torch.equal(model.get_input_embeddings().weight.detach(), before.bfloat16())


def test_a_snapshot_in_the_middle_of_a_fit_is_whole_and_under_plain_names():
    model = bert_classifier()
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    subnet.vocabulary.narrow(USED)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    middle = subnet.snapshot()
    assert list(middle) == list(theta_0)
    changed = middle["bert.embeddings.word_embeddings.weight"] != theta_0["bert.embeddings.word_embeddings.weight"]
    assert changed.any(1).nonzero().flatten().tolist() == [PAD, *USED]
    with pytest.raises(ValueError, match="whole"):
        subnet.rewind(theta_0)
    subnet.vocabulary.widen()
    subnet.rewind(middle)
    assert torch.equal(model.get_input_embeddings().weight, middle["bert.embeddings.word_embeddings.weight"])


# Checkpoints ----------------------------------------------------------------------------------------------------------

NAME, ROWS = (f"bert.embeddings.word_embeddings.{what}" for what in ("weight", "rows_in_use"))


def checkpoint(tokens: np.ndarray | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and moments of a model with other values: row i is full of i, its moments of -i."""
    model = bert_classifier(seed=1)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.arange(60.0)[:, None].expand(-1, 16))
    if tokens is not None:
        Vocabulary(model).narrow(tokens)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return state, {"exp_avg": -state[NAME], "step": torch.tensor(7.0)}


@pytest.mark.parametrize("here", [None, USED, np.array([2, 3])], ids=str)
@pytest.mark.parametrize("there", [None, USED], ids=str)
def test_a_checkpoint_of_some_rows_is_loaded_into_others(here, there):
    model = bert_classifier()
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary = Vocabulary(model)
    if here is not None:
        vocabulary.narrow(here)
    state, moments = checkpoint(there)
    vocabulary.adapt(state, moments)
    model.load_state_dict(state)
    held = torch.arange(60) if here is None else model.get_buffer(ROWS)
    stored = torch.arange(60) if there is None else torch.tensor([PAD, *USED])
    expected = torch.where(torch.isin(held, stored), -held, 0)
    assert torch.equal(moments["exp_avg"][:, 0], expected.float())
    assert moments["step"] == 7
    vocabulary.widen()
    values = torch.where(torch.isin(torch.arange(60), stored), torch.arange(60.0), torch.nan)[:, None].expand(-1, 16)
    assert torch.equal(model.get_input_embeddings().weight, torch.where(values.isnan(), before, values))


def test_the_weights_of_a_fit_are_loaded_into_a_whole_model():
    model, (state, _) = bert_classifier(), checkpoint(USED)
    before = model.get_input_embeddings().weight.detach().clone()
    model.load_state_dict(unnarrowed(state, model.state_dict()))
    after = model.get_input_embeddings().weight.detach()
    assert after[USED][:, 0].tolist() == USED.tolist()
    assert torch.equal(after[3], before[3])


@pytest.mark.parametrize(
    "rows",
    [[], [0, 2, 5, 9, 17, 60], [-1, 2, 5, 9, 17, 30], [0, 2, 2, 9, 17, 30], [0, 2, 5], [[0], [2]], [0.0] * 6],
    ids=str,
)
def test_rows_that_cannot_be_are_no_rows(rows):
    state, _ = checkpoint(USED)
    state[ROWS] = torch.tensor(rows)
    shapes = {name: tuple(tensor.shape) for name, tensor in bert_classifier().state_dict().items()}
    assert rows_in(state, shapes) == {}
