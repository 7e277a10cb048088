"""Which rows of a split are used: the same in every run, disjoint samples of them, others by another seed."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.data.drawing import FIRST, Draw
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import WORDS, write_rows

NUMBERS = np.arange(100, 140)


def test_rows_are_those_of_numpys_generator_in_their_order():
    """Recorded results depend on these draws, so they are written out here."""
    order = np.random.default_rng(20220).permutation(NUMBERS)
    assert FIRST.rows(7, NUMBERS).tolist() == sorted(order[:7])
    assert Draw(sample=2).rows(7, NUMBERS).tolist() == sorted(order[14:21])
    of_part = np.random.default_rng([20220, 57, zlib.crc32(b"zh")]).permutation(NUMBERS)
    assert Draw(57, "zh").rows(7, NUMBERS).tolist() == sorted(of_part[:7])
    assert Draw(57, "zh", 1).rows(7, NUMBERS).tolist() == sorted(of_part[7:14])
    by_seed = np.random.default_rng([20220, 3]).permutation(NUMBERS)
    assert Draw(3).rows(7, NUMBERS).tolist() == sorted(by_seed[:7])


def test_all_rows_are_all_rows_in_any_draw():
    for draw in (FIRST, Draw(3), Draw(3, "zh")):
        assert draw.rows(None, NUMBERS).tolist() == NUMBERS.tolist()
        assert draw.rows(50, NUMBERS).tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("draw", [Draw(), Draw(0), Draw(57, "zh")])
def test_samples_are_disjoint_and_make_up_the_split(draw):
    samples = [Draw(draw.seed, draw.language, sample).rows(10, NUMBERS) for sample in range(4)]
    assert sorted(np.concatenate(samples)) == NUMBERS.tolist()
    with pytest.raises(UserError, match=r"train_sample is 4, counting from 0, .* 5 disjoint samples of 10 rows"):
        Draw(draw.seed, draw.language, 4).rows(10, NUMBERS)
    with pytest.raises(UserError, match="say how large one is"):
        Draw(draw.seed, draw.language, 1).rows(None, NUMBERS)


def test_samples_of_parallel_languages_are_the_same_sentences(data, bert):
    def chosen(language: str, sample: int | None, **settings: int) -> list[int]:
        made = XNLI(language, bert, str(data), max_train_examples=20, train_sample=sample, **settings)
        return made.table("train")["index"][:]

    first, second = chosen("fr", None), chosen("fr", 1)
    assert chosen("fr", 0) == first
    assert sorted(first + second) == list(range(40))
    assert (chosen("zh", 0), chosen("zh", 1)) == (first, second)
    assert chosen("fr", None, subset_seed=1) == chosen("zh", None, subset_seed=1) != first
    # What is evaluated is the same whatever was trained on.
    whole = XNLI("fr", bert, str(data), max_eval_examples=5).table("validation")["index"][:]
    apart = XNLI("fr", bert, str(data), max_train_examples=20, train_sample=1, max_eval_examples=5, subset_seed=9)
    assert apart.table("validation")["index"][:] == whole


def test_a_sample_that_the_split_is_too_small_for_is_refused(data, bert):
    with pytest.raises(UserError, match="2 disjoint samples of 21 rows"):
        XNLI("fr", bert, str(data), max_train_examples=21, train_sample=1).table("train")


@pytest.fixture
def texts(tmp_path: Path, cache: Path) -> str:
    """Thirty documents of a hundred words."""
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 100)) for _ in range(30)]
    write_rows(tmp_path / "text" / "fr" / "train.parquet", {"text": documents})
    write_rows(tmp_path / "text" / "fr" / "validation.parquet", {"text": documents[:2]})
    return str(tmp_path / "text")


def test_samples_of_running_text_are_consecutive_blocks(texts, bert):
    def blocks(most: int, sample: int | None = None) -> list[list[int]]:
        made = WikipediaMLM("fr", bert, texts, max_length=16, max_train_blocks=most, train_sample=sample)
        return made.table("train")["input_ids"][:]

    whole = blocks(60)
    assert [blocks(20, sample) for sample in (None, 0, 1, 2)] == [whole[:20], whole[:20], whole[20:40], whole[40:]]
    with pytest.raises(UserError, match="2 disjoint samples of 150 blocks"):
        blocks(150, 1)
    with pytest.raises(UserError, match="2 disjoint samples of 150 blocks"):
        blocks(150, 1)  # nothing of it was kept
    with pytest.raises(UserError, match="4 disjoint samples of 1,000 blocks"):
        blocks(1000, 3)


def test_rows_are_named_alike_exactly_where_they_are_the_same(data, bert):
    def named(language: str = "fr", **settings: int) -> str:
        return XNLI(language, bert, str(data), **settings).rows_used

    assert named() == named("zh") == named(seed=5) == "parallel rows, all rows"
    assert named(max_train_examples=20) == named("zh", max_train_examples=20, train_sample=0)
    assert named(max_train_examples=20) == "parallel rows, sample 0 of 20 rows"
    assert (
        named(max_train_examples=20, train_sample=1, subset_seed=5) == "parallel rows, sample 1 of 20 rows, drawn by 5"
    )
    assert named("fr+zh", seed=5) == "fr+zh, all rows, drawn by 5"
    assert named("fr+zh", seed=5, max_train_examples=20, subset_seed=7) == "fr+zh, sample 0 of 20 rows, drawn by 7"
