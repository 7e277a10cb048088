"""The mask on a live model, against torch.nn.utils.prune and against copies of the weights."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MT5Config,
    MT5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from lnsub.common.errors import UserError
from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from tests.support.models import bert_classifier, bert_config


def mt5_config() -> MT5Config:
    return MT5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2)


def magnitude_mask(subnet: Subnet, sparsity: float) -> Mask:
    return select({name: weight.detach() for name, weight in subnet.weights.items()}, subnet.mask, sparsity)


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    return [{"input_ids": torch.randint(5, 60, (8, 12)), "labels": torch.randint(0, 3, (8,))} for _ in range(count)]


def test_mbert_has_the_73_matrices_and_85524480_weights_of_the_paper():
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(vocab_size=119547))
    found = prunable(model)
    assert len(found) == 73
    assert sum(linear.parameter.numel() for linear in found.values()) == 85_524_480
    assert "encoder.layer.11.attention.self.query.weight" in found
    assert "pooler.dense.weight" in found
    assert list(found) == sorted(found)


@pytest.mark.parametrize("head", [BertForTokenClassification, BertForMaskedLM])
def test_tasks_without_a_pooler_share_the_other_names(head):
    with_pooler = set(prunable(bert_classifier()))
    assert set(prunable(head(bert_config()))) == with_pooler - {"pooler.dense.weight"}


def test_embeddings_norms_biases_and_heads_are_never_prunable():
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
    xlmr = XLMRobertaForSequenceClassification(XLMRobertaConfig(num_hidden_layers=2, **small))
    assert len(prunable(xlmr)) == 2 * 6
    config = DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2)
    distil = DistilBertForSequenceClassification(config)
    assert len(prunable(distil)) == 2 * 6
    names = prunable(MT5ForConditionalGeneration(mt5_config()))
    assert len(names) == 2 * (4 + 3) + 2 * (8 + 3)  # attention, gated feed-forward; the decoder attends twice
    assert not [name for name in names if "shared" in name or "lm_head" in name or "relative" in name]


def test_a_model_without_blocks_is_refused():
    with pytest.raises(UserError, match="no linear layer"):
        prunable(nn.Sequential(nn.Linear(2, 2)))


def test_a_second_subnet_on_one_model_is_refused():
    model = bert_classifier()
    Subnet(model)
    with pytest.raises(ValueError, match="mask already"):
        Subnet(model)


@pytest.mark.parametrize("sparsity", [0.3, 0.8])
def test_masked_gradients_train_like_the_reparametrised_model_of_torch(sparsity):
    """Ten AdamW steps with clipping and weight decay: the same losses, then the same weights, to the last bit."""
    ours, theirs = bert_classifier(), bert_classifier()
    subnet = Subnet(ours)
    mask = magnitude_mask(subnet, sparsity)
    subnet.set_mask(mask)
    for name, linear in prunable(theirs).items():
        prune.custom_from_mask(linear.module, "weight", mask[name])

    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1) for m in (ours, theirs)]
    for batch in batches(10):
        losses = []
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            if model is ours:
                subnet.mask_gradients()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == losses[1]
    for name, linear in prunable(theirs).items():
        effective = linear.module.weight_orig * linear.module.weight_mask
        assert torch.equal(subnet.weights[name].detach(), effective.detach()), name
        assert torch.equal(subnet.weights[name][~mask[name]], torch.zeros(int((~mask[name]).sum())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_gradients_are_those_of_a_float_mask_to_the_last_bit(dtype):
    model = bert_classifier().to(dtype)
    subnet = Subnet(model)
    mask = magnitude_mask(subnet, 0.5)
    subnet.set_mask(mask)
    expected = {}
    for name, weight in subnet.weights.items():
        weight.grad = torch.randn_like(weight)
        weight.grad[0, :4] = torch.tensor([-0.0, 1e-45, -3e38, torch.inf]).to(dtype)
        expected[name] = weight.grad * mask[name].to(dtype)
    subnet.mask_gradients()
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    for name, weight in subnet.weights.items():
        assert torch.equal(weight.grad.view(bits), expected[name].view(bits)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_masking_sets_weights_to_plain_zero_whatever_they_were_and_touches_no_other(dtype):
    model = bert_classifier().to(dtype)
    subnet = Subnet(model)
    odd = torch.tensor([-0.0, float("nan"), float("inf"), -float("inf"), -1.0, 1e-45], dtype=dtype)
    for weight in subnet.weights.values():
        weight.detach().view(-1)[: len(odd)] = odd
        weight.detach().view(-1)[-len(odd) :] = odd
    torch.manual_seed(0)
    mask = Mask({name: torch.rand(shape) < 0.5 for name, shape in subnet.shapes.items()})
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    expected = {n: w.detach().masked_fill(~mask[n], 0.0).view(bits) for n, w in subnet.weights.items()}

    subnet.set_mask(mask)

    assert all(torch.equal(w.detach().view(bits), expected[n]) for n, w in subnet.weights.items())
    assert all(torch.count_nonzero(w.detach()[~mask[n]].view(bits)) == 0 for n, w in subnet.weights.items())


def test_pruned_weights_stay_zero_only_because_gradients_are_masked():
    model = bert_classifier()
    subnet = Subnet(model)
    mask = magnitude_mask(subnet, 0.5)
    subnet.set_mask(mask)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(**batches(1)[0]).loss.backward()
    optimizer.step()  # unmasked on purpose
    revived = sum(int((weight[~mask[name]] != 0).sum()) for name, weight in subnet.weights.items())
    assert revived > 0.9 * (mask.total - mask.kept)


def test_rewind_copies_and_never_aliases_over_three_rounds():
    model = bert_classifier()
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    stored = {name: tensor.clone() for name, tensor in theta_0.items()}
    for level in (0.2, 0.5, 0.7):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for batch in batches(2):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            subnet.mask_gradients()
            optimizer.step()
        mask = magnitude_mask(subnet, level)
        subnet.set_mask(mask)
        subnet.rewind(theta_0)
        for name, weight in subnet.weights.items():
            original = stored[f"bert.{name}"]
            assert torch.equal(weight.detach(), torch.where(mask[name], original, torch.zeros_like(original)))
        assert torch.equal(model.classifier.weight.detach(), stored["classifier.weight"])
        assert all(torch.equal(theta_0[name], tensor) for name, tensor in stored.items())


def test_rewind_can_leave_the_head_or_the_base_as_trained():
    model = bert_classifier()
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    subnet.rewind(theta_0, head=False)
    assert torch.equal(model.classifier.weight, trained["classifier.weight"])
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, theta_0["bert.embeddings.word_embeddings.weight"])
    with torch.no_grad():
        model.load_state_dict(trained)
    subnet.rewind(theta_0, base=False)
    assert torch.equal(model.classifier.weight, theta_0["classifier.weight"])
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, trained["bert.embeddings.word_embeddings.weight"])


def test_the_fingerprint_is_the_base_models_whatever_the_head_and_the_seed_of_the_pooler():
    classifier = bert_classifier()
    tagger = BertForTokenClassification(bert_config())
    tagger.bert.load_state_dict(classifier.bert.state_dict(), strict=False)
    other_pooler = copy.deepcopy(classifier)
    nn.init.normal_(other_pooler.bert.pooler.dense.weight)
    changed = copy.deepcopy(classifier)
    with torch.no_grad():
        changed.bert.encoder.layer[1].output.dense.weight[0, 0] += 1e-3
    first, *same, different = (Subnet(m).fingerprint() for m in (classifier, tagger, other_pooler, changed))
    assert same == [first, first]
    assert different != first


def test_a_mask_of_other_names_is_refused():
    subnet = Subnet(bert_classifier())
    with pytest.raises(ValueError, match="not fit"):
        subnet.set_mask(Mask({"encoder.layer.0.x.weight": torch.ones(2, 2, dtype=torch.bool)}))


def test_a_snapshots_prunable_weights_go_by_their_base_names_whatever_else_ends_alike():
    model = bert_classifier()
    # A second name that ends as the pooler's does.
    model.register_module("pooler", nn.Module())
    model.pooler.dense = nn.Linear(16, 16)
    for whole, prefix in ((model, "bert."), (MT5ForConditionalGeneration(mt5_config()), "")):
        subnet = Subnet(whole)
        snapshot = subnet.snapshot()
        found = subnet.prunable_of(snapshot)
        assert list(found) == list(subnet.weights)
        assert all(found[name] is snapshot[f"{prefix}{name}"] for name in found)


@pytest.mark.parametrize("wrapped", [False, True], ids=["the model", "a module around it"])
def test_loading_a_state_takes_its_masks_and_masks_the_weights(wrapped):
    saved, model = bert_classifier(), bert_classifier(seed=1)
    source, subnet = Subnet(saved), Subnet(model)
    mask = magnitude_mask(source, 0.5)
    source.set_mask(mask)
    state = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    weights = {name: state[f"bert.{name}"] for name in subnet.weights}
    for name, weight in weights.items():
        weight[~mask[name]] = 7.0  # what a foreign checkpoint may hold where its mask prunes
    if wrapped:
        module = nn.ModuleDict({"model": model})
        module.load_state_dict({f"model.{name}": tensor for name, tensor in state.items()})
    else:
        model.load_state_dict(state)
    assert subnet.mask == mask
    for name, weight in subnet.weights.items():
        assert torch.equal(weight.detach(), weights[name] * mask[name])
    model(**batches(1)[0]).loss.backward()
    subnet.mask_gradients()
    assert all(not weight.grad[~mask[name]].any() for name, weight in subnet.weights.items())


def test_loading_a_dense_state_makes_the_model_dense_again():
    dense, model = bert_classifier(), bert_classifier()
    Subnet(dense)
    subnet = Subnet(model)
    subnet.set_mask(magnitude_mask(subnet, 0.5))
    model.load_state_dict(dense.state_dict())
    assert subnet.mask.kept == subnet.mask.total
    assert all(torch.equal(weight, dense.get_parameter(f"bert.{name}")) for name, weight in subnet.weights.items())


@pytest.mark.parametrize("base", [True, False])
def test_a_rewind_can_set_the_next_mask(base):
    model = bert_classifier()
    subnet = Subnet(model)
    theta_0 = subnet.snapshot()
    with torch.no_grad():
        for weight in subnet.weights.values():
            weight.add_(1.0)
    expected = subnet.prunable_of(theta_0) if base else {n: w.detach().clone() for n, w in subnet.weights.items()}
    mask = magnitude_mask(subnet, 0.4)
    subnet.rewind(theta_0, mask=mask, base=base)
    assert subnet.mask == mask
    assert all(torch.equal(weight.detach(), expected[name] * mask[name]) for name, weight in subnet.weights.items())


def test_a_copy_of_a_model_is_masked_on_its_own():
    model = bert_classifier()
    subnet = Subnet(model)
    subnet.set_mask(magnitude_mask(subnet, 0.5))
    before = {name: weight.detach().clone() for name, weight in subnet.weights.items()}
    other = copy.deepcopy(model)
    state = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    name = next(iter(subnet.weights))
    state[f"bert.{name}"].fill_(1.0)
    other.load_state_dict(state)
    assert torch.equal(other.get_parameter(f"bert.{name}"), subnet.mask[name].float())
    assert all(torch.equal(weight, before[name]) for name, weight in subnet.weights.items())
