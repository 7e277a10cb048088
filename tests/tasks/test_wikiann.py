"""WikiANN: words to pieces and back, and what is wrong with rows."""

import logging
from pathlib import Path

import datasets
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.wikiann import TAGS, WikiANN
from lnsub.tasks.words import on_pieces
from tests.support.data_makers import batches, write_rows

SENTENCES = [["Ann", "sat", "on", "mats"], ["the", "dogs"], ["Paris", "and", "cats", "and", "Paris"]]
NUMBERS = [[1, 0, 0, 3], [0, 5], [5, 0, 1, 2, 3]]


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    for split in ("train", "validation"):
        write_rows(tmp_path / "fr" / f"{split}.parquet", {"tokens": SENTENCES, "ner_tags": NUMBERS})
    return tmp_path


def test_a_word_is_labelled_on_its_first_piece_alone(data, bert):
    rows = WikiANN("fr", bert, str(data)).table("train").with_format(None).to_list()
    pieces = [load_tokenizer(bert).convert_ids_to_tokens(row["input_ids"]) for row in rows]
    assert pieces[0] == ["[CLS]", "Ann", "sat", "on", "mat", "##s", "[SEP]"]
    assert rows[0]["labels"] == [IGNORED, 1, 0, 0, 3, IGNORED, IGNORED]
    assert pieces[1] == ["[CLS]", "the", "dog", "##s", "[SEP]"]
    assert rows[1]["labels"] == [IGNORED, 0, 5, IGNORED, IGNORED]
    assert [row["length"] for row in rows] == [7, 5, 8]


def test_a_word_that_repeats_itself_is_labelled_twice():
    pieces = [None, 0, 1, 1, 2, None]
    assert on_pieces("first", pieces, [4, 5, 6]) == [IGNORED, 4, 5, IGNORED, 6, IGNORED]
    assert on_pieces("last", pieces, [4, 5, 6]) == [IGNORED, 4, IGNORED, 5, 6, IGNORED]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
@pytest.mark.parametrize("named", [True, False])
def test_files_of_any_type_and_tags_by_number_or_name_give_the_same_rows(data, bert, suffix, named):
    tags = [[TAGS[tag] for tag in row] for row in NUMBERS] if named else NUMBERS
    write_rows(data / "xx" / f"train{suffix}", {"tokens": SENTENCES, "ner_tags": tags})
    expected = WikiANN("fr", bert, str(data)).table("train").with_format(None).to_list()
    assert WikiANN("xx", bert, str(data)).table("train").with_format(None).to_list() == expected


def test_classes_in_another_order_are_read_by_name(data, bert):
    names = [*TAGS[1:], "O"]
    tags = datasets.List(datasets.ClassLabel(names=names))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    numbers = [[names.index(TAGS[tag]) for tag in row] for row in NUMBERS]
    write_rows(data / "xx" / "train.parquet", {"tokens": SENTENCES, "ner_tags": numbers}, features)
    expected = WikiANN("fr", bert, str(data)).table("train")["labels"][:]
    assert WikiANN("xx", bert, str(data)).table("train")["labels"][:] == expected


def test_words_beyond_the_length_are_left_out_and_counted(data, bert, caplog):
    write_rows(data / "fr" / "train.parquet", {"tokens": [["mats"] * 9, ["a"]], "ner_tags": [[1] * 9, [0]]})
    with caplog.at_level(logging.INFO, "lnsub"):
        rows = WikiANN("fr", bert, str(data), max_length=9).table("train").with_format(None).to_list()
    # seven pieces fit: three words whole and the first piece of the fourth
    assert rows[0]["labels"] == [IGNORED, 1, IGNORED, 1, IGNORED, 1, IGNORED, 1, IGNORED]
    assert "left out 5 words beyond 9 tokens" in caplog.text


def test_sentences_without_words_are_skipped_and_counted(data, bert, caplog):
    write_rows(data / "fr" / "train.jsonl", {"tokens": [["a"], [], ["the"]], "ner_tags": [[0], [], [1]]})
    (data / "fr" / "train.parquet").unlink()
    with caplog.at_level(logging.INFO, "lnsub"):
        assert WikiANN("fr", bert, str(data)).table("train")["index"][:] == [0, 2]
    assert "left out 1 rows without any labelled token" in caplog.text


@pytest.mark.parametrize(
    ("tokens", "tags", "message"),
    [
        ([["a"], ["a", "b"]], [[0], [0]], r"train\.jsonl', row 1 \(counting from 0\) has 2 tokens but 1 tags"),
        ([["a"]], [[7]], r"row 0 .* has the label 7: it must be one of 0 O, 1 B-PER, .*, 6 I-LOC"),
        ([["a"]], [["B-MISC"]], "has the label 'B-MISC'"),
        ([["a", None]], [[0, 0]], "row 0 .*: tokens is not a list of strings"),
        ([["a"]], [None], "row 0 .*: ner_tags is not a list"),
        ([["a"]], [[None]], "row 0 .* has the label None"),
        ([["a"], None], [[0], [0]], "row 1 .*: tokens is not a list"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, cache, bert, tokens, tags, message):
    write_rows(tmp_path / "fr" / "train.jsonl", {"tokens": tokens, "ner_tags": tags})
    with pytest.raises(UserError, match=message):
        WikiANN("fr", bert, str(tmp_path)).table("train")


def test_a_batch_gives_the_loss_that_transformers_gives(data, bert):
    module = WikiANN("fr", bert, str(data))
    model, _ = module.task.build(bert)
    assert [model.config.id2label[i] for i in range(7)] == list(TAGS)
    (batch,) = batches(module.val_dataloader())
    logits = module.task.forward(model.eval(), batch)
    assert logits.shape == (*batch["labels"].shape, 7)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids", "labels")}
    loss = F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, model(**inputs).loss)


def test_perfect_predictions_score_one_and_decode_to_the_tags(data, bert):
    module = WikiANN("fr", bert, str(data))
    (batch,) = batches(module.val_dataloader())
    logits = F.one_hot(batch["labels"].clamp(min=0), 7).float()
    logits[batch["labels"] == IGNORED, 6] = 9.0  # whatever is said about later pieces and padding
    metrics = module.task.metrics()
    metrics.update(logits, batch["labels"])
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found == {"f1": 1, "precision": 1, "recall": 1, "f1_default": 1}
    assert module.task.complete() == ("f1", "precision", "recall")  # runs of versions without the default F1 are whole
    for row in module.task.decode(logits, batch):
        assert row["tags"] == row["predictions"] == [TAGS[tag] for tag in NUMBERS[row["index"]]]


@pytest.mark.shared
@pytest.mark.parametrize(("language", "count"), [("fr", 8000), ("zh", 8000), ("ur", 8000)])
def test_real_sentences_fill_batches_with_few_padded_tokens(shared, cache, language, count):
    module = WikiANN(language, str(shared / "models" / "me5-tiny"), str(shared / "data" / "ner"))
    module.setup("fit")
    assert len(module.table("train")) == count
    used = computed = 0
    for batch in batches(module.train_dataloader()):
        used += int(batch["attention_mask"].sum())
        computed += batch["attention_mask"].numel()
    assert 1 - used / computed < 0.10


@pytest.mark.shared
def test_real_words_all_have_a_piece(shared, cache, caplog):
    module = WikiANN("ur", str(shared / "models" / "me5-tiny"), str(shared / "data" / "ner"))
    with caplog.at_level(logging.INFO, "lnsub"):
        table = module.table("validation")
    assert "left out" not in caplog.text
    source = module.source.read("validation")
    for tags, labels in zip(source["ner_tags"], table["labels"], strict=True):
        assert [label for label in labels if label != IGNORED] == tags
