"""Causal language modelling: blocks, next tokens, the loss and the bits per byte of text."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import AutoModelForCausalLM

import lnsub.tasks.token_loss
from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.clm import CausalLM, CausalLMTask
from lnsub.tasks.metrics import BitsPerByte, CrossEntropy
from lnsub.tasks.mlm import MLMTask
from lnsub.tasks.token_bytes import bytes_of_tokens
from lnsub.tasks.token_loss import mean_nats, summed_nats
from tests.support.data_makers import batches, write_rows
from tests.support.decoders import TEXT, make_decoder

DOCUMENTS = [*TEXT, "zzz Ω  x\n\ny 🙂", *(f"{text} {i}" for i in range(6) for text in TEXT)]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Gemma 3 whose tokenizer puts ``<s>`` before a text."""
    return make_decoder(tmp_path_factory.mktemp("gemma"), "gemma3")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> str:
    for split in ("train", "validation"):
        write_rows(tmp_path / "data" / "fr" / f"{split}.parquet", {"text": DOCUMENTS})
    return str(tmp_path / "data")


def base_of(name: str, decoder: str, gemma: str) -> str:
    return {"qwen3": decoder, "gemma3": gemma}[name]


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_the_tokens_of_a_text_spell_its_own_bytes(name, decoder, gemma):
    base = base_of(name, decoder, gemma)
    tokenizer, sizes = load_tokenizer(base), bytes_of_tokens(base)
    for text in DOCUMENTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert sizes[ids].sum() == len(text.encode())
    assert not sizes[tokenizer.all_special_ids].any()


def test_the_tokens_of_whole_words_have_the_space_before_them(bert):
    sizes = dict(
        zip(load_tokenizer(bert).convert_ids_to_tokens(range(12)), bytes_of_tokens(bert).tolist(), strict=False)
    )
    assert (sizes["the"], sizes["[CLS]"]) == (4, 0)
    assert bytes_of_tokens(bert)[load_tokenizer(bert).convert_tokens_to_ids("##ting")] == 4


@pytest.mark.shared
@pytest.mark.parametrize("language", ["en", "ur", "zh"])
def test_the_pieces_of_a_real_tokenizer_spell_the_text_as_it_is_decoded(shared, language):
    base = str(shared / "models" / "me5-small")
    tokenizer, sizes = load_tokenizer(base), bytes_of_tokens(base)
    for text in CausalLM(language, base, str(shared / "data" / "mlm")).source.read("train")[:20]["text"]:
        ids = [i for i in tokenizer(text, add_special_tokens=False)["input_ids"] if i != tokenizer.unk_token_id]
        spelled = "".join(tokenizer.convert_ids_to_tokens(ids)).replace("▁", " ")
        assert sizes[ids].sum() == len(spelled.encode())


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_blocks_spell_the_documents_and_start_as_the_tokenizer_starts_a_text(name, folder, decoder, gemma):
    base = base_of(name, decoder, gemma)
    tokenizer = load_tokenizer(base)
    cut = CausalLM("fr", base, folder, max_length=24).table("train")["input_ids"][:]
    start = [tokenizer.bos_token_id] if name == "gemma3" else []
    assert all(block[: len(start)] == start for block in cut)
    assert {len(block) for block in cut[:-1]} == {24}
    spelled = [token for block in cut for token in block[len(start) :]]
    expected: list[int] = []
    for text in DOCUMENTS:
        expected += [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert spelled == expected[:-1]


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_a_label_is_the_next_token_unless_that_is_special(name, folder, decoder, gemma):
    base = base_of(name, decoder, gemma)
    special = set(load_tokenizer(base).all_special_ids)
    for batch in batches(CausalLM("fr", base, folder, max_length=24, batch_size=7).train_dataloader()):
        assert batch["labels"].shape == batch["input_ids"].shape
        for ids, mask, labels in zip(
            *(batch[key].tolist() for key in ("input_ids", "attention_mask", "labels")), strict=True
        ):
            for at, label in enumerate(labels):
                inside = at + 1 < sum(mask) and ids[at + 1] not in special
                assert label == (ids[at + 1] if inside else IGNORED)


def test_the_loss_and_its_gradients_are_those_of_the_library(folder, gemma):
    data = CausalLM("fr", gemma, folder, max_length=24, batch_size=7)
    batch = next(batches(data.train_dataloader()))
    ours, _ = data.task.build(gemma)
    theirs = AutoModelForCausalLM.from_pretrained(gemma, dtype=torch.float32)
    ours.train(), theirs.train()
    loss = data.task.loss(data.task.forward(ours, batch), batch["labels"])
    shifted = F.pad(batch["labels"], (1, 0), value=IGNORED)[:, :-1]  # the library shifts them back
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = theirs(**inputs, labels=shifted).loss
    torch.testing.assert_close(loss, expected)
    loss.backward(), expected.backward()
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_in_pieces_is_the_loss_of_the_whole(dtype, monkeypatch):
    monkeypatch.setattr(lnsub.tasks.token_loss, "PIECE", 3 * 50 + 1)  # seven positions are three pieces
    classes = 50
    torch.manual_seed(0)
    logits = torch.randn(7, classes).to(dtype)
    labels = torch.tensor([5, IGNORED, 0, classes - 1, 3, IGNORED, 9])
    plain = logits.clone().requires_grad_()
    expected = F.cross_entropy(plain.float(), labels, ignore_index=IGNORED)
    expected.backward()
    torch.testing.assert_close(summed_nats(logits, labels).float(), expected.detach() * 5)
    ours = logits.clone().requires_grad_()
    loss = mean_nats(ours.view(7, classes) * 1, labels)  # not a leaf, as logits are none
    (2 * loss).backward()
    torch.testing.assert_close(loss.detach(), expected.detach())
    torch.testing.assert_close(ours.grad, 2 * plain.grad)


def test_the_loss_of_a_batch_in_which_nothing_counts_is_nothing():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = mean_nats(logits * 1, torch.full((2, 3), IGNORED))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_metrics_of_known_probabilities(folder, decoder):
    data = CausalLM("fr", decoder, folder, max_length=24)
    batch = next(batches(data.val_dataloader()))
    labels, sizes = batch["labels"], bytes_of_tokens(decoder)
    size = len(load_tokenizer(decoder))
    metrics = data.task.metrics()
    metrics.update(torch.zeros(*labels.shape, size), labels)
    metrics.update(2.0 * F.one_hot(labels.clamp(min=0), size).float(), labels)
    counted = int((labels != IGNORED).sum())
    nats = counted * (math.log(size) + math.log(math.exp(2) + size - 1) - 2)
    spelled = 2 * int(sizes[labels[labels != IGNORED]].sum())
    found = {name: float(value) for name, value in metrics.compute().items()}
    loss = nats / 2 / counted
    expected = {"loss": loss, "perplexity": math.exp(loss), "bits_per_byte": nats / math.log(2) / spelled}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    metrics.reset()
    assert float(metrics.compute()["bits_per_byte"]) == 0


def test_bits_per_byte_add_up_over_processes(decoder):
    sizes = bytes_of_tokens(decoder)
    torch.manual_seed(0)
    logits, labels = torch.randn(8, len(sizes)), torch.randint(4, len(sizes), (8,))
    parts = [BitsPerByte(sizes) for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 3), slice(3, 8)), strict=True):
        part.update(logits[rows], labels[rows])
    whole = BitsPerByte(sizes)
    whole.update(logits, labels)
    for name, reduction in whole._reductions.items():
        summed = reduction(torch.stack([getattr(part, name) for part in parts]))
        torch.testing.assert_close(summed, getattr(whole, name))
    assert set(whole._reductions) > set(CrossEntropy()._reductions)


def test_predictions_stand_beside_the_tokens_that_followed(folder, gemma):
    data = CausalLM("fr", gemma, folder, max_length=24)
    batch = next(batches(data.predict_dataloader()))
    logits = F.one_hot(batch["labels"].clamp(min=0), len(load_tokenizer(gemma))).float()
    for row, ids in zip(data.task.decode(logits, batch), batch["input_ids"], strict=True):
        tokens = load_tokenizer(gemma).convert_ids_to_tokens(ids[row["positions"]].tolist())
        assert row["predictions"] == row["tokens"] == tokens
        assert row["positions"]
    assert [row["index"] for row in data.task.decode(logits, batch)] == batch["index"].tolist()


def test_models_of_the_other_kind_are_refused_and_told_of_the_other_task(bert, mt5, decoder):
    with pytest.raises(UserError, match=r"\(bert\) reads in both directions, and clm .* the mlm task"):
        CausalLMTask(bert).build(bert)
    with pytest.raises(UserError, match=r"\(mt5\) is an encoder-decoder, and clm is for models that read from left"):
        CausalLMTask(mt5).build(mt5)
    with pytest.raises(
        UserError, match=r"\(qwen3\) reads from left to right, and mlm is for encoders: .* the clm task"
    ):
        MLMTask(decoder).build(decoder)


def test_limits_and_held_out_documents_are_those_of_running_text(folder, decoder):
    (Path(folder) / "fr" / "validation.parquet").unlink()
    data = CausalLM("fr", decoder, folder, max_length=24, max_train_blocks=5, max_eval_blocks=1)
    assert (len(data.table("train")), len(data.table("validation"))) == (5, 1)
    assert np.mean(data.table("train")["length"][:]) <= 24
