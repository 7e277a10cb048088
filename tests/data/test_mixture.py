"""Mixtures of languages: their shares, which rows they use, and what is evaluated."""

from collections import Counter
from fractions import Fraction
from itertools import product
from pathlib import Path

import datasets
import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.data.mixture import apportion, balanced, parts_of, shares_of
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks import data_modules
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import WORDS, batches, write_rows

SIZES = {"en": 60, "fa": 40, "fr": 45, "zh": 50}


def _columns(task: str, count: int, word: str) -> dict[str, list]:
    """Rows of a task, all of them with the word that tells their language."""
    if task == "xnli":
        return {"premise": [f"{word} {WORDS[i % 9]}" for i in range(count)], "hypothesis": ["cat"] * count} | {
            "label": [i % 3 for i in range(count)]
        }
    if task in ("mlm", "clm"):
        return {"text": [" ".join([word] * (11 + i % 23)) for i in range(count)]}
    tag = {"wikiann": "ner_tags", "udpos": "upos"}[task]
    names = {"wikiann": "B-PER", "udpos": "NOUN"}[task]
    return {"tokens": [[word, WORDS[i % 9]] for i in range(count)], tag: [[names, names]] * count}


@pytest.fixture
def world(tmp_path: Path, cache: Path) -> Path:
    """Four languages for each task, told apart by a word of their own."""
    for task, (place, (language, count)) in product(
        (module.task_class.name for module in data_modules().values()), enumerate(SIZES.items())
    ):
        for split, rows in (("train", count), ("validation", 7 + place)):
            write_rows(tmp_path / task / language / f"{split}.jsonl", _columns(task, rows, WORDS[10 + place]))
    return tmp_path


def _languages(table: datasets.Dataset, tokenizer: str) -> Counter[str]:
    """How many rows of each language a table or batch holds, by the words that tell them apart."""
    ids = {load_tokenizer(tokenizer).convert_tokens_to_ids(WORDS[10 + i]): name for i, name in enumerate(SIZES)}
    return Counter(next(ids[token] for token in row if token in ids) for row in table)


@pytest.mark.parametrize("task", sorted(module.task_class.name for module in data_modules().values()))
@pytest.mark.parametrize("shares", [None, [0.4, 0.3, 0.2, 0.1]])
def test_every_epoch_holds_the_stated_shares_and_each_row_once(task, shares, world, bert):
    modules = {module.task_class.name: module for module in data_modules().values()}
    module = modules[task](
        "en+fa+fr+zh",
        bert,
        str(world / task),
        max_train_examples=80,
        shares=shares,
        batch_size=8,
        max_length=16,
        seed=5,
    )
    loader = module.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        # The blocks of masked language modelling hide words behind masks, so their rows are looked up by number.
        rows = [row for batch in batches(loader) for row in batch["index"].tolist()] if task in ("mlm", "clm") else None
        seen = [row for batch in batches(loader) for row in batch["input_ids"].tolist()] if rows is None else None
        if rows is not None:
            assert sorted(rows) == list(range(len(module.table("train"))))
            seen = [module.table("train")[row]["input_ids"] for row in rows]
        counts = _languages(seen, bert)
        total = sum(counts.values())
        assert total == 80 or (task in ("mlm", "clm") and total > 80)
        wanted = shares or [0.25] * 4
        for language, share in zip(SIZES, wanted, strict=True):
            assert abs(counts[language] - share * total) < 1


def test_batches_mix_the_languages(world, bert):
    module = WikiANN("en+fa+fr+zh", bert, str(world / "wikiann"), batch_size=8, max_length=16)
    mixed = [len(_languages(batch["input_ids"].tolist(), bert)) for batch in batches(module.train_dataloader())]
    assert np.mean(mixed) > 2.5


def test_without_a_limit_the_smallest_part_sets_the_size(world, bert):
    module = XNLI("en+fa+fr+zh", bert, str(world / "xnli"), max_length=16)
    assert _languages(module.table("train")["input_ids"], bert) == dict.fromkeys(SIZES, 40)
    module = XNLI("en+fa", bert, str(world / "xnli"), max_length=16, shares=[0.75, 0.25])
    assert _languages(module.table("train")["input_ids"], bert) == {"en": 60, "fa": 20}


def test_rows_are_drawn_once_for_a_seed_and_apart_for_each_language(world, bert):
    def chosen(seed: int, language: str = "en+fa") -> dict[str, list[int]]:
        module = XNLI(language, bert, str(world / "xnli"), max_length=16, max_train_examples=40, seed=seed)
        rows = module.table("train")["index"]
        return {"en": list(rows[:20]), "fa": list(rows[20:])}

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert chosen(1)["en"] != chosen(1)["fa"]
    assert chosen(1)["en"] == chosen(1, "en+zh")["en"]


def test_validation_is_that_of_each_part_and_of_all_together(world, bert):
    module = WikiANN("en+zh", bert, str(world / "wikiann"), max_length=16, max_eval_examples=8)
    assert _languages(module.table("validation")["input_ids"], bert) == {"en": 7, "zh": 8}
    en, zh = module.parts
    alone = WikiANN("zh", bert, str(world / "wikiann"), max_length=16, max_eval_examples=8)
    assert zh.table("validation")[:] == alone.table("validation")[:]
    assert (en.language, en.part_of, en.metric_suffix, module.metric_suffix) == ("en", "en+zh", "/en", "")
    assert module.splits() == ["train", "validation"]
    assert alone.parts == ()


def test_what_cannot_be_mixed_is_refused(world, bert):
    def module(language: str, **settings) -> XNLI:
        return XNLI(language, bert, str(world / "xnli"), max_length=16, **settings)

    with pytest.raises(UserError, match="names en twice"):
        module("en+fa+en")
    with pytest.raises(UserError, match="'en\\+fa' has 2 languages, but the number of shares is 3"):
        module("en+fa", shares=[0.2, 0.3, 0.5])
    with pytest.raises(UserError, match=r"add up to 0\.8"):
        module("en+fa", shares=[0.4, 0.4])
    with pytest.raises(UserError, match="the language is 'en'"):
        module("en", shares=[0.5, 0.5])
    with pytest.raises(UserError, match="it must be a number above 0 and below 1"):
        module("en+fa", shares=[0.0, 1.0])
    with pytest.raises(UserError, match="max_train_examples is 1, which leaves nothing of some language"):
        module("en+fa", max_train_examples=1).table("train")
    with pytest.raises(UserError, match="has no language 'xx'"):
        module("en+xx").check()
    write_rows(world / "xnli" / "de" / "train.jsonl", _columns("xnli", 1, "red"))
    with pytest.raises(UserError, match="too few to mix them by the shares"):
        module("en+de", shares=[0.4, 0.6]).table("train")


def test_a_mixture_is_written_as_in_a_ticket():
    assert parts_of("en+fa+fr+zh") == ("en", "fa", "fr", "zh")
    assert parts_of("en") == ()
    assert shares_of("en+fa+fr", [0.33, 0.33, 0.33]) == pytest.approx((1 / 3,) * 3)


@pytest.mark.parametrize("total", [0, 1, 7, 100, 20_001])
@pytest.mark.parametrize("shares", [[0.25] * 4, [0.5, 0.3, 0.2], [1 / 3] * 3, [0.9, 0.1]])
def test_rows_are_apportioned_by_the_largest_remainder(total, shares):
    counts = apportion(total, shares)
    assert sum(counts) == total
    # Hamilton's method in exact fractions.
    exact = [Fraction(share).limit_denominator(1000) * total for share in shares]
    floors = [int(x) for x in exact]
    order = sorted(range(len(shares)), key=lambda i: (-(exact[i] - floors[i]), i))
    for i in order[: total - sum(floors)]:
        floors[i] += 1
    assert counts == floors


@pytest.mark.parametrize("sizes", list(product([1, 3, 10, 17], repeat=3)))
def test_the_largest_mixture_that_holds_the_shares_is_made(sizes):
    shares = [Fraction(5, 10), Fraction(3, 10), Fraction(2, 10)]
    found = balanced(sizes, [float(share) for share in shares])
    fitting = [n for n in range(sum(sizes) + 1) if all(n * p <= size for p, size in zip(shares, sizes, strict=True))]
    assert sum(found) == max(fitting) or found == list(sizes)
    assert all(abs(n - sum(found) * p) < 1 and n <= size for n, p, size in zip(found, shares, sizes, strict=True))


def test_rows_that_hold_the_shares_already_are_all_used():
    assert balanced([4, 3, 3], [1 / 3] * 3) == [4, 3, 3]
    assert balanced([3, 4, 3], [1 / 3] * 3) == [3, 3, 3]
