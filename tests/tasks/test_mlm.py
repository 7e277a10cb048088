"""Masked language modelling: documents to blocks, masks, and the loss at masked positions alone."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import (
    AutoModelForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.drawing import Draw
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.mlm import MLMTask, WikipediaMLM
from lnsub.tasks.running_text import cut_into_blocks, held_out, special_frame
from tests.support.data_makers import WORDS, batches, write_rows


def documents(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, 60)))) for _ in range(count)]


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> str:
    write_rows(tmp_path / "data" / "fr" / "train.parquet", {"text": documents(120)})
    write_rows(tmp_path / "data" / "fr" / "validation.parquet", {"text": documents(30, seed=1)})
    return str(tmp_path / "data")


def blocks(module: WikipediaMLM, split: str) -> list[list[int]]:
    return module.table(split)["input_ids"][:]


def by_block(batch: dict[str, torch.Tensor]) -> dict[int, tuple[list[int], list[int], list[int]]]:
    """Each block's unpadded input, and the chosen positions and the tokens that stood there."""
    width = batch["input_ids"].shape[1]
    found: dict[int, tuple[list[int], list[int], list[int]]] = {
        index: (ids[: mask.sum()].tolist(), [], [])
        for index, ids, mask in zip(batch["index"].tolist(), batch["input_ids"], batch["attention_mask"], strict=True)
    }
    order = batch["index"].tolist()
    for position, label in zip(batch["positions"].tolist(), batch["labels"].tolist(), strict=True):
        if label != IGNORED:
            found[order[position // width]][1].append(position % width)
            found[order[position // width]][2].append(label)
    return found


def masks(module: WikipediaMLM, epoch: int = 0) -> dict[int, tuple[list[int], list[int], list[int]]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return {index: block for batch in batches(loader) for index, block in by_block(batch).items()}


def test_documents_are_cut_into_blocks_and_nothing_is_thrown_away():
    cut = cut_into_blocks([[5, 6, 7], [], [8], [9, 10, 11, 12]], 5, [2], [3], [3], [0, 1, 2, 3])
    assert [block.tolist() for block in cut] == [[2, 5, 6, 7, 3], [2, 3, 8, 3, 3], [2, 9, 10, 11, 3], [2, 12, 3]]


def test_a_block_without_anything_to_mask_is_left_out():
    assert [b.tolist() for b in cut_into_blocks([[5, 5, 5, 1, 1, 1, 6]], 3, [], [], [], [1])] == [[5, 5, 5], [6]]
    assert cut_into_blocks([[], []], 5, [2], [3], [3], [2, 3]) == []


def test_the_special_tokens_of_a_block_are_those_of_a_single_text(bert, mt5):
    assert [load_tokenizer(bert).convert_ids_to_tokens(part) for part in special_frame(load_tokenizer(bert))] == [
        ["[CLS]"],
        ["[SEP]"],
    ]
    assert special_frame(load_tokenizer(mt5)) == ([], [load_tokenizer(mt5).eos_token_id])


def test_the_blocks_of_a_split_spell_its_documents(data, bert):
    module = WikipediaMLM("fr", bert, data, max_length=32)
    tokenizer = load_tokenizer(bert)
    cut = blocks(module, "train")
    assert {len(block) for block in cut[:-1]} == {32}
    assert 3 <= len(cut[-1]) <= 32
    assert all(block[0] == tokenizer.cls_token_id and block[-1] == tokenizer.sep_token_id for block in cut)
    expected = f" {tokenizer.sep_token} ".join(documents(120)).split()
    assert tokenizer.convert_ids_to_tokens([i for block in cut for i in block[1:-1]]) == expected


def test_every_block_has_its_share_of_masks_and_the_labels_are_what_stood_there(data, bert):
    module = WikipediaMLM("fr", bert, data, max_length=32, batch_size=7)
    special = set(load_tokenizer(bert).all_special_ids)
    originals = blocks(module, "train")
    found = masks(module)
    assert sorted(found) == list(range(len(originals)))
    for index, (shown, positions, labels) in found.items():
        original = originals[index]
        maskable = [i for i, token in enumerate(original) if token not in special]
        assert len(positions) == max(1, round(0.15 * len(maskable)))
        assert set(positions) <= set(maskable)
        assert labels == [original[i] for i in positions]
        assert [token for i, token in enumerate(shown) if i not in positions] == [
            token for i, token in enumerate(original) if i not in positions
        ]


def test_of_the_chosen_tokens_80_percent_are_masked_10_random_and_10_as_they_were(data, bert):
    module = WikipediaMLM("fr", bert, data, max_length=32, mlm_probability=0.5)
    tokenizer = load_tokenizer(bert)
    masked = kept = count = 0
    for epoch in range(12):
        for shown, positions, labels in masks(module, epoch).values():
            now = [shown[i] for i in positions]
            count += len(now)
            masked += sum(token == tokenizer.mask_token_id for token in now)
            kept += sum(token == label for token, label in zip(now, labels, strict=True))
    assert count > 15000
    assert masked / count == pytest.approx(0.8 + 0.1 / len(tokenizer), abs=0.012)
    assert kept / count == pytest.approx(0.1 + 0.1 / len(tokenizer), abs=0.01)


def test_a_mask_is_a_function_of_seed_epoch_and_block(data, bert):
    first = masks(WikipediaMLM("fr", bert, data, max_length=32, seed=1))
    other_batches = masks(WikipediaMLM("fr", bert, data, max_length=32, seed=1, tokens_per_batch=200))
    workers = masks(WikipediaMLM("fr", bert, data, max_length=32, seed=1, num_workers=2))
    assert first == other_batches == workers
    for other in (
        masks(WikipediaMLM("fr", bert, data, max_length=32, seed=2)),
        masks(WikipediaMLM("fr", bert, data, max_length=32, seed=1), epoch=1),
    ):
        assert np.mean([other[index][1] == block[1] for index, block in first.items()]) < 0.1


def test_masks_of_validation_never_change(data, bert):
    def validation(epoch: int, **settings: int) -> dict[int, tuple[list[int], list[int], list[int]]]:
        loader = WikipediaMLM("fr", bert, data, max_length=32, **settings).val_dataloader()
        loader.sampler.set_epoch(epoch)
        return {index: block for batch in batches(loader) for index, block in by_block(batch).items()}

    assert validation(0, seed=1) == validation(3, seed=2, eval_tokens_per_batch=100)


def test_the_number_of_positions_depends_on_the_shape_of_a_batch_alone(data, bert):
    counts = {}
    for batch in batches(WikipediaMLM("fr", bert, data, max_length=32, batch_size=4).train_dataloader()):
        assert batch["positions"].shape == batch["labels"].shape
        assert counts.setdefault(batch["input_ids"].shape, len(batch["positions"])) == len(batch["positions"])
    assert counts[4, 32] == 4 * round(0.15 * 32)


@pytest.mark.parametrize("pad_to", [1, 8])
@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "distilbert", "electra"])
def test_the_loss_at_the_masked_positions_is_that_of_the_whole_model(data, bert, architecture, pad_to):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    size = len(load_tokenizer(bert))
    torch.manual_seed(0)
    if architecture == "bert":
        model = AutoModelForMaskedLM.from_pretrained(bert)
    elif architecture == "xlm-roberta":
        model = XLMRobertaForMaskedLM(XLMRobertaConfig(vocab_size=size, max_position_embeddings=40, **sizes))
    elif architecture == "distilbert":
        model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=size, dim=16, n_layers=2, n_heads=2, hidden_dim=32))
    else:
        model = ElectraForMaskedLM(ElectraConfig(vocab_size=size, embedding_size=12, **sizes))
    model.eval()
    whole = copy.deepcopy(model)
    module = WikipediaMLM("fr", bert, data, max_length=32, pad_to_multiple_of=pad_to, batch_size=8)
    batch = next(batches(module.train_dataloader()))
    logits = module.task.forward(model, batch)
    assert logits.shape == (len(batch["labels"]), size)
    loss = F.cross_entropy(logits, batch["labels"], ignore_index=IGNORED)
    kept = batch["labels"] != IGNORED
    everywhere = torch.full((batch["input_ids"].numel(),), IGNORED)
    everywhere[batch["positions"][kept]] = batch["labels"][kept]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = whole(**inputs, labels=everywhere.view_as(batch["input_ids"]))
    torch.testing.assert_close(loss, expected.loss)
    loss.backward()
    expected.loss.backward()
    for (name, parameter), other in zip(model.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)
    # afterwards the model is as it was
    torch.testing.assert_close(model(**inputs).logits, expected.logits)


def test_scores_and_predictions_of_a_perfect_model(data, bert):
    module = WikipediaMLM("fr", bert, data, max_length=32)
    batch = next(batches(module.predict_dataloader()))
    size = len(load_tokenizer(bert))
    logits = 3.0 * F.one_hot(batch["labels"].clamp(min=0), size).float()
    metrics = module.task.metrics()
    metrics.update(logits, batch["labels"])
    scores = {name: value.item() for name, value in metrics.compute().items()}
    nats = np.log(np.exp(3) + size - 1) - 3
    assert scores == pytest.approx({"accuracy": 1.0, "loss": nats, "perplexity": np.exp(nats)}, rel=1e-6)
    decoded = module.task.decode(logits, batch)
    originals = blocks(module, "validation")
    assert [row["index"] for row in decoded] == batch["index"].tolist()
    for row in decoded:
        original = load_tokenizer(bert).convert_ids_to_tokens(originals[row["index"]])
        assert row["predictions"] == row["tokens"] == [original[i] for i in row["positions"]]
        assert row["positions"]


def test_a_new_language_modelling_head_is_reported_missing(bert):
    model, missing = MLMTask(bert).build(bert)
    assert missing
    assert all(name.startswith("cls.predictions.") for name in missing)
    assert "cls.predictions.decoder.weight" not in missing  # tied to the word embeddings
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize(("count", "size"), [(50, 1), (1000, 10), (300_000, 2000)])
def test_held_out_documents_are_a_fixed_hundredth_and_the_rest_is_training(count, size):
    validation, train = (held_out(count, validation=which) for which in (True, False))
    assert len(validation) == size
    assert np.array_equal(np.sort(np.concatenate([validation, train])), np.arange(count))
    assert np.array_equal(validation, held_out(count, validation=True))
    assert len(held_out(count, validation=True, most=5)) == min(size, 5)
    assert len(held_out(count, validation=True, most=10**6)) == max(1, -(-count // 100))


def test_without_a_validation_split_documents_of_the_train_split_are_held_out(data, bert):
    (Path(data) / "fr" / "validation.parquet").unlink()
    module = WikipediaMLM("fr", bert, data, max_length=32)
    module.setup()
    tokenizer = load_tokenizer(bert)

    def text(split: str) -> str:
        return " ".join(tokenizer.convert_ids_to_tokens([i for block in blocks(module, split) for i in block[1:-1]]))

    rest = documents(120)
    out = [rest.pop(number) for number in held_out(120, validation=True)[::-1]]
    assert text("validation") == " [SEP] ".join(out[::-1])
    assert text("train") == " [SEP] ".join(rest)
    with pytest.raises(UserError, match="has no test split for 'fr': it has train"):
        module.setup("test")


def test_a_limit_of_blocks_gives_that_many_of_documents_in_a_random_order(data, bert):
    every = [
        " ".join(load_tokenizer(bert).convert_ids_to_tokens(block[1:-1]))
        for block in blocks(WikipediaMLM("fr", bert, data, max_length=32), "train")
    ]
    module = WikipediaMLM("fr", bert, data, max_length=32, max_train_blocks=20, max_eval_blocks=7)
    tokenizer = load_tokenizer(bert)
    found = [" ".join(tokenizer.convert_ids_to_tokens(block[1:-1])) for block in blocks(module, "train")]
    assert len(found) == 20
    assert len(blocks(module, "validation")) == 7
    # The blocks are the start of all documents in another order than the file's.
    order = np.random.default_rng([20220, 0, 0]).permutation(120)
    text = " [SEP] ".join(documents(120)[i] for i in order)
    assert text.startswith(" ".join(found))
    assert found != every[:20]
    assert (
        blocks(WikipediaMLM("fr", bert, data, max_length=32, max_train_blocks=10), "train")
        == blocks(module, "train")[:10]
    )
    whole = WikipediaMLM("fr", bert, data, max_length=32, max_train_blocks=10_000)
    assert len(blocks(whole, "train")) == len(every)


def test_a_mixture_has_as_many_blocks_of_each_language_whatever_their_documents(data, bert):
    write_rows(Path(data) / "sw" / "train.parquet", {"text": [f"dog {text}" for text in documents(300, seed=2)]})
    write_rows(Path(data) / "sw" / "validation.parquet", {"text": documents(30, seed=3)})
    module = WikipediaMLM("fr+sw", bert, data, max_length=32, max_train_blocks=60, shares=[0.25, 0.75], seed=4)
    assert [len(part.tokenised("train", None, Draw(4, part.language))) for part in module.parts] == [15, 45]
    assert len(blocks(module, "train")) == 60
    limited = WikipediaMLM("fr+sw", bert, data, max_length=32, max_eval_blocks=5)
    assert len(blocks(limited, "validation")) == 10


@pytest.mark.parametrize("split", ["train", "validation"])
def test_one_document_without_a_validation_split_is_refused_with_what_to_do(data, bert, split):
    (Path(data) / "fr" / "validation.parquet").unlink()
    write_rows(Path(data) / "fr" / "train.parquet", {"text": documents(1)})
    with pytest.raises(UserError, match=r"train\.parquet' has one document and there is no validation split") as caught:
        WikipediaMLM("fr", bert, data).table(split)
    assert "give a validation split, or cut the text into several documents" in str(caught.value)
    write_rows(Path(data) / "fr" / "train.parquet", {"text": documents(2)})
    assert len(WikipediaMLM("fr", bert, data, max_length=64).table(split)) >= 1
    write_rows(Path(data) / "fr" / "validation.parquet", {"text": documents(1)})
    write_rows(Path(data) / "fr" / "train.parquet", {"text": documents(1)})
    assert len(WikipediaMLM("fr", bert, data, max_length=64).table(split)) >= 1


def test_text_that_looks_like_dates_numbers_or_nothing_is_text(tmp_path, cache, bert):
    texts = ["2024-01-01", "1984", "1.0", "true", "null", "NA", ""]
    tables = []
    for suffix in (".parquet", ".jsonl", ".json", ".csv", ".tsv.gz"):
        write_rows(tmp_path / suffix[1:] / f"train{suffix}", {"text": texts, "n": range(7)})
        write_rows(tmp_path / suffix[1:] / f"validation{suffix}", {"text": texts, "n": range(7)})
        tables.append(blocks(WikipediaMLM(suffix[1:], bert, str(tmp_path), max_length=64), "train"))
    assert all(table == tables[0] for table in tables)
    assert sum(map(len, tables[0])) > 20


def test_what_cannot_be_masked_is_refused(data, bert, mt5):
    for probability in (0.0, 1.0):
        with pytest.raises(UserError, match=f"mlm_probability is {probability}"):
            WikipediaMLM("fr", bert, data, mlm_probability=probability)
    with pytest.raises(UserError, match="has no mask token"):
        WikipediaMLM("fr", mt5, data).train_dataloader()
    write_rows(Path(data) / "fr" / "train.jsonl", {"text": ["a", None]})
    (Path(data) / "fr" / "train.parquet").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl', row 1 .*: the text is None, not a string"):
        WikipediaMLM("fr", bert, data).table("train")


@pytest.mark.shared
@pytest.mark.parametrize("language", ["fr", "zh", "ur"])
def test_real_text_is_cut_and_masked(shared, cache, language):
    module = WikipediaMLM(language, str(shared / "models" / "me5-tiny"), str(shared / "data" / "mlm"))
    module.setup("fit")
    tokenizer = load_tokenizer(module.tokenizer)
    used = computed = chosen = maskable = 0
    special = torch.tensor(tokenizer.all_special_ids)
    for batch in batches(module.train_dataloader()):
        used += int(batch["attention_mask"].sum())
        computed += batch["attention_mask"].numel()
        kept = batch["labels"] != IGNORED
        chosen += int(kept.sum())
        original = batch["input_ids"].clone().flatten()
        original[batch["positions"][kept]] = batch["labels"][kept]
        maskable += int((~torch.isin(original, special)).sum())
    assert 1 - used / computed < 0.01
    assert chosen / maskable == pytest.approx(0.15, abs=0.005)
    source = module.source.read("train")["text"]
    tokens = sum(len(ids) for ids in tokenizer(list(source), add_special_tokens=False, verbose=False)["input_ids"])
    assert used - 2 * len(module.table("train")) == pytest.approx(tokens + len(source), abs=len(source) / 1000 + 130)
