"""How pairs and tagged words become token ids for models that read from left to right."""

from pathlib import Path

import pytest

from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.words import needs_spaces
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import pairs, write_rows
from tests.support.decoders import make_decoder

WORDS = ["the", "chat", "Paris"]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_decoder(tmp_path_factory.mktemp("gemma"), "gemma3")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> str:
    write_rows(tmp_path / "ner" / "fr" / "train.jsonl", {"tokens": [WORDS], "ner_tags": [[0, 1, 5]]})
    write_rows(tmp_path / "xnli" / "fr" / "train.jsonl", pairs(4))
    return str(tmp_path)


def test_a_words_tag_is_on_its_last_piece_and_words_do_not_run_together(folder, decoder):
    data = WikiANN("fr", decoder, f"{folder}/ner")
    (row,) = data.table("train").with_format(None).to_list()
    tokenizer = load_tokenizer(decoder)
    assert tokenizer.decode(row["input_ids"]) == " ".join(WORDS)
    spelled, found = "", []
    for piece, label in zip(row["input_ids"], row["labels"], strict=True):
        spelled += tokenizer.decode([piece])
        if label != IGNORED:
            found.append((spelled, label))
    assert found == [("the", 0), ("the chat", 1), ("the chat Paris", 5)]
    assert data.settings() == {"max_length": 128, "labelled_piece": "last", "words": "spaced"}


def test_an_encoders_words_are_read_as_before(folder, bert):
    assert not needs_spaces(load_tokenizer(bert))
    assert WikiANN("fr", bert, f"{folder}/ner").settings() == {"max_length": 128}
    assert XNLI("fr", bert, f"{folder}/xnli").settings() == {"max_length": 128, "text_to_text": False}


def test_a_line_break_separates_a_pair_where_the_tokenizer_does_not(folder, decoder):
    data = XNLI("fr", decoder, f"{folder}/xnli")
    assert data.settings()["separator"] == "\n"
    columns = pairs(4)
    expected = [f"{p}\n{h}" for p, h in zip(columns["premise"], columns["hypothesis"], strict=True)]
    assert load_tokenizer(decoder).batch_decode(data.table("train")["input_ids"][:]) == expected


def test_nothing_is_added_to_a_pair_that_the_tokenizer_separates(folder, gemma):
    data = XNLI("fr", gemma, f"{folder}/xnli")
    assert "separator" not in data.settings()
    for ids in data.table("train")["input_ids"][:]:
        assert ids.count(load_tokenizer(gemma).bos_token_id) == 2
