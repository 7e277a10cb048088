"""XNLI: pairs to inputs, both kinds of model, and what they predict."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.xnli import LABELS, XNLI, label_words, source_text
from tests.support.data_makers import batches, write_rows

PREMISES = ["the cat sat on a mat", "Ann ran home", "the red dogs ran and the cats sat", "a dog", "not a cat"]
HYPOTHESES = ["a cat sat", "Ann sat", "dogs ran", "the dog ran on and on and on", "red"]


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> str:
    columns = {"premise": PREMISES, "hypothesis": HYPOTHESES, "label": [0, 1, 2, 0, 1]}
    for split in ("train", "validation"):
        write_rows(tmp_path / "data" / "fr" / f"{split}.parquet", columns)
    return str(tmp_path / "data")


def test_a_pair_is_tokenised_as_the_tokenizer_does_one_by_one(data, bert):
    table = XNLI("fr", bert, data, max_length=12).table("train").with_format(None)
    tokenizer = load_tokenizer(bert)
    lengths = set()
    for row, premise, hypothesis in zip(table, PREMISES, HYPOTHESES, strict=True):
        expected = tokenizer(premise, hypothesis, truncation="longest_first", max_length=12)
        assert row["input_ids"] == expected["input_ids"]
        assert row["token_type_ids"] == expected["token_type_ids"]
        assert row["length"] == len(expected["input_ids"])
        lengths.add(row["length"])
    assert max(lengths) == 12
    assert min(lengths) < 12
    assert table["labels"][:] == [0, 1, 2, 0, 1]


def test_a_batch_gives_the_loss_that_transformers_gives(data, bert):
    module = XNLI("fr", bert, data)
    model, missing = module.task.build(bert)
    assert missing == {"classifier.weight", "classifier.bias"}
    assert [model.config.id2label[i] for i in range(3)] == list(LABELS)
    (batch,) = batches(module.val_dataloader())
    logits = module.task.forward(model.eval(), batch)
    assert logits.shape == (5, 3)
    tokenizer = load_tokenizer(bert)
    pairs = [(PREMISES[i], HYPOTHESES[i]) for i in batch["index"].tolist()]
    encoded = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    expected = model(**encoded, labels=batch["labels"])
    torch.testing.assert_close(logits, expected.logits)
    torch.testing.assert_close(F.cross_entropy(logits, batch["labels"]), expected.loss)


def test_predictions_carry_the_row_the_label_and_the_predicted_label(data, bert):
    module = XNLI("fr", bert, data)
    (batch,) = batches(module.predict_dataloader())
    decoded = module.task.decode(F.one_hot(torch.tensor([2, 2, 1, 0, 0]), 3).float(), batch)
    assert [row["prediction"] for row in decoded] == ["contradiction"] * 2 + ["neutral"] + ["entailment"] * 2
    labels = [LABELS[i] for i in (0, 1, 2, 0, 1)]
    assert {row["index"]: row["label"] for row in decoded} == dict(enumerate(labels))


def test_an_encoder_decoder_reads_the_pair_as_text_and_writes_the_label(data, mt5):
    module = XNLI("fr", mt5, data, max_length=24)
    tokenizer = load_tokenizer(mt5)
    table = module.table("train").with_format(None)
    assert source_text("A.", "B.") == "xnli premise: A. hypothesis: B."
    for row, premise, hypothesis in zip(table, PREMISES, HYPOTHESES, strict=True):
        text = f"xnli premise: {premise} hypothesis: {hypothesis}"
        assert row["input_ids"] == tokenizer(text, truncation=True, max_length=24)["input_ids"]
    written = [tokenizer.decode(row["labels"], skip_special_tokens=True) for row in table]
    assert written == ["entailment", "neutral", "contradiction", "entailment", "neutral"]
    assert all(row["labels"][-1] == tokenizer.eos_token_id for row in table)


def test_an_encoder_decoder_gives_the_loss_that_transformers_gives(data, mt5):
    module = XNLI("fr", mt5, data)
    model, missing = module.task.build(mt5)
    assert missing == frozenset()
    (batch,) = batches(module.val_dataloader())
    logits = module.task.forward(model.eval(), batch)
    assert logits.shape == (*batch["labels"].shape, model.config.vocab_size)
    loss = F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten(), ignore_index=IGNORED)
    expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss
    torch.testing.assert_close(loss, expected)


def trained(task, model, batch, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss = F.cross_entropy(
            task.forward(model, batch).flatten(0, -2), batch["labels"].flatten(), ignore_index=IGNORED
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("steps", [0, 15, 60])
def test_accuracy_and_predictions_of_an_encoder_decoder_are_those_of_greedy_decoding(data, mt5, steps):
    module = XNLI("fr", mt5, data)
    torch.manual_seed(1)
    model, _ = module.task.build(mt5)
    (batch,) = batches(module.val_dataloader())
    trained(module.task, model, batch, steps)
    model.eval()
    with torch.no_grad():
        logits = module.task.forward(model, batch)
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        written = model.generate(**inputs, max_new_tokens=4, do_sample=False, num_beams=1)[:, 1:].tolist()
    eos = load_tokenizer(mt5).eos_token_id
    words = label_words(load_tokenizer(mt5))
    written = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in written]
    greedy = [LABELS[words.index(ids)] if ids in words else None for ids in written]
    metrics = module.task.metrics()
    metrics.update(logits, batch["labels"])
    decoded = module.task.decode(logits, batch)
    right = sum(row["label"] == label for row, label in zip(decoded, greedy, strict=True))
    assert metrics.compute()["accuracy"] == right / 5
    assert right == {0: 0, 60: 5}.get(steps, right)
    # where greedy decoding writes a label, that is the prediction; it may also start one and not end it
    assert all(row["prediction"] == label for row, label in zip(decoded, greedy, strict=True) if label is not None)
    assert all(row["prediction"] in (None, *LABELS) for row in decoded)


def test_a_prediction_looks_at_nothing_after_the_first_wrong_token(data, mt5):
    module = XNLI("fr", mt5, data)
    (batch,) = batches(module.val_dataloader())
    words = label_words(load_tokenizer(mt5))
    entailment, neutral, contradiction = words
    size = len(load_tokenizer(mt5))

    def decode(label: list[int], argmax: list[int]) -> str | None:
        width = max(map(len, words))
        one = {
            "index": torch.tensor([0]),
            "labels": torch.tensor([label + [IGNORED] * (width - len(label))]),
        }
        logits = F.one_hot(torch.tensor([argmax + [0] * (width - len(argmax))]), size).float()
        return module.task.decode(logits, one)[0]["prediction"]

    assert decode(neutral, neutral) == "neutral"
    assert decode(neutral, [contradiction[0], neutral[1]]) == "contradiction"
    assert decode(entailment, [entailment[0], 9, entailment[2]]) is None
    assert decode(contradiction, [0, *contradiction[1:]]) is None
    assert batch["labels"].shape == (5, max(map(len, words)))


@pytest.mark.shared
@pytest.mark.parametrize("language", ["fr", "zh", "ur"])
def test_real_pairs_fill_batches_with_few_padded_tokens(shared, cache, language):
    module = XNLI(language, str(shared / "models" / "me5-tiny"), str(shared / "data" / "xnli"))
    module.setup("fit")
    assert len(module.table("train")) == 15001
    assert len(module.table("validation")) == 2490
    used = computed = 0
    for batch in batches(module.train_dataloader()):
        used += int(batch["attention_mask"].sum())
        computed += batch["attention_mask"].numel()
    assert 1 - used / computed < 0.05
    classes = torch.tensor(module.table("train")["labels"][:]).bincount()
    assert classes.tolist() == [5100, 4397, 5504]
    assert all(batch["labels"].max() < 3 for batch in batches(module.val_dataloader()))
