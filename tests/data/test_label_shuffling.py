"""Shuffled labels: the same labels as often, on other rows or words, in training alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import WORDS, batches, write_rows


@pytest.fixture
def entities(tmp_path: Path, cache: Path) -> str:
    """Sentences of one to eight words, some of which are cut into pieces."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("validation", 10)):
        words = [rng.choice([*WORDS, "cats", "mats"], rng.integers(1, 9)).tolist() for _ in range(count)]
        tags = [rng.choice(7, len(row), p=[0.4, *[0.1] * 6]).tolist() for row in words]
        write_rows(tmp_path / "ner" / "fr" / f"{split}.parquet", {"tokens": words, "ner_tags": tags})
    return str(tmp_path / "ner")


def rows(data: Any, split: str = "train") -> tuple[list[Any], list[Any]]:
    table = data.table(split)
    return table["input_ids"][:], table["labels"][:]


def test_each_word_gets_the_label_of_another_one(entities, bert):
    ids, labels = rows(WikiANN("fr", bert, entities))
    shuffled_ids, shuffled = rows(WikiANN("fr", bert, entities, labels="shuffled"))
    assert shuffled_ids == ids
    assert [[label == IGNORED for label in row] for row in shuffled] == [[x == IGNORED for x in row] for row in labels]
    flat, moved = ([x for row in found for x in row if x != IGNORED] for found in (labels, shuffled))
    assert Counter(moved) == Counter(flat)
    # Of independent draws of these frequencies so many agree, give or take.
    by_chance = sum((count / len(flat)) ** 2 for count in Counter(flat).values())
    agreeing = np.mean([a == b for a, b in zip(flat, moved, strict=True)])
    assert agreeing == pytest.approx(by_chance, abs=4 * np.sqrt(by_chance / len(flat)))
    assert rows(WikiANN("fr", bert, entities, labels="shuffled"))[1] == shuffled


def test_what_is_evaluated_has_its_own_labels(entities, bert):
    plain, apart = WikiANN("fr", bert, entities), WikiANN("fr", bert, entities, labels="shuffled")
    assert rows(plain, "validation") == rows(apart, "validation")


def test_each_row_gets_the_label_of_another_one_and_other_languages_others(data, bert):
    _, labels = rows(XNLI("fr", bert, str(data)))
    found = {language: rows(XNLI(language, bert, str(data), labels="shuffled"))[1] for language in ("fr", "zh")}
    assert Counter(found["fr"]) == Counter(labels) == Counter(found["zh"])
    assert found["fr"] != labels
    # Of parallel rows, which would otherwise have the same labels again.
    assert found["fr"] != found["zh"]


def test_labels_that_are_words_are_moved_whole(data, mt5):
    _, labels = rows(XNLI("fr", mt5, str(data)))
    _, shuffled = rows(XNLI("fr", mt5, str(data), labels="shuffled"))
    assert shuffled != labels
    assert Counter(map(tuple, shuffled)) == Counter(map(tuple, labels))


def test_a_mixture_and_a_sample_are_shuffled_too(data, bert):
    mixed = XNLI("fr+zh", bert, str(data), max_train_examples=20, train_sample=1, labels="shuffled", seed=1)
    plain = XNLI("fr+zh", bert, str(data), max_train_examples=20, train_sample=1, seed=1)
    assert rows(mixed)[0] == rows(plain)[0]
    assert rows(mixed)[1] != rows(plain)[1]
    assert sum(len(batch["labels"]) for batch in batches(mixed.train_dataloader())) == 20


def test_text_has_no_labels_to_shuffle(data, bert):
    with pytest.raises(UserError, match="mlm has no labels beside the text"):
        WikipediaMLM("fr", bert, str(data), labels="shuffled")
