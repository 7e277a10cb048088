"""The embedded data and tokenizer are whole, are what their README says, and can be made again."""

import random
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from datasets import DatasetDict, load_dataset
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

import lnsub.demo
from lnsub.common.errors import UserError
from tools.demo import make_data, make_tokenizer

HOME = Path(lnsub.demo.__file__).parent
LANGUAGES = sorted(path.name for path in (HOME / "data").iterdir() if path.is_dir())
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
SENTENCES = {
    "ar": "ولد الشاعر في مدينة القاهرة عام 1936 .",
    "de": "Köln liegt am Rhein, und die Straßen sind alt.",
    "en": "She was born in York in 1921; her brother wasn't.",
    "es": "El niño vivió tres años en España.",
    "fa": "این کتاب در تهران چاپ شد.",
    "fr": "L'élève a étudié à Paris, où il fait froid.",
    "hi": "वह दिल्ली में रहता है।",
    "ru": "Он родился в городе Москва в 1950 году.",
    "sw": "Mji mkuu wa nchi hiyo ni Nairobi.",
    "ur": "یہ شہر پاکستان میں ہے۔",  # noqa: RUF001
    "zh": "他在北京大学学习历史。",
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, DatasetDict]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return {language: load_dataset(str(HOME / "data" / language), cache_dir=cache) for language in LANGUAGES}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(HOME / "model")


def entities(tokens: list[str], tags: list[int]) -> Iterator[tuple[str, str]]:
    """A second reading of IOB2: (type, casefolded text) of each entity, from the string of tag letters."""
    letters = "".join(TAGS[tag][0] for tag in tags)
    for match in re.finditer("BI*", letters):
        kinds = {TAGS[tag][2:] for tag in tags[match.start() : match.end()]}
        assert len(kinds) == 1
        yield kinds.pop(), " ".join(tokens[match.start() : match.end()]).casefold()


def test_at_least_five_languages_one_of_them_right_to_left_load_with_names_of_tags(shipped):
    assert len(LANGUAGES) >= 5
    assert {"ar", "fa", "ur"} & set(LANGUAGES)
    for splits in shipped.values():
        assert {split: len(rows) for split, rows in splits.items()} == {"train": 1500, "validation": 400, "test": 400}
        assert splits["train"].features["ner_tags"].feature.names == TAGS


def test_every_token_has_a_tag_and_tags_are_iob2(shipped):
    for splits in shipped.values():
        for rows in splits.values():
            for tokens, tags in zip(rows["tokens"], rows["ner_tags"], strict=True):
                assert len(tokens) == len(tags) > 0
                assert all(token and token == token.strip() for token in tokens)
                for before, tag in zip([0, *tags], tags, strict=False):
                    if TAGS[tag].startswith("I-"):
                        assert TAGS[before] in (TAGS[tag], f"B-{TAGS[tag][2:]}")


def test_no_sentence_and_no_entity_is_in_two_splits(shipped):
    for splits in shipped.values():
        sentences: dict[str, str] = {}
        names: dict[str, str] = {}
        for split, rows in splits.items():
            for tokens, tags in zip(rows["tokens"], rows["ner_tags"], strict=True):
                assert sentences.setdefault(" ".join(tokens).casefold(), split) == split
                for _, name in entities(tokens, tags):
                    assert names.setdefault(name, split) == split


def test_the_task_is_neither_empty_nor_a_list_of_words(shipped):
    for splits in shipped.values():
        rows = splits["train"]
        found = [list(entities(*pair)) for pair in zip(rows["tokens"], rows["ner_tags"], strict=True)]
        kinds = [kind for row in found for kind, _ in row]
        assert min(kinds.count(kind) for kind in ("PER", "ORG", "LOC")) > 0.2 * len(kinds)
        assert 20 < sum(not row for row in found) < 300
        tagged: dict[str, set[str]] = {}
        for row in found:
            for kind, name in row:
                tagged.setdefault(name, set()).add(kind)
        assert len(tagged) > 1_000
        assert sum(len(kinds) > 1 for kinds in tagged.values()) > 20


def test_templates_that_are_held_out_are_not_in_train(shipped):
    texts = {split: {" ".join(row) for row in rows["tokens"]} for split, rows in shipped["de"].items()}
    held_out = {split: sum(text.startswith("Liste der Persönlichkeiten") for text in texts[split]) for split in texts}
    assert held_out["train"] == 0
    assert held_out["validation"] > 0 < held_out["test"]


@pytest.mark.parametrize("language", ["de", "fa", "zh"])
def test_the_same_seed_makes_the_shipped_rows_again(shipped, language):
    pytest.importorskip("faker")
    made_with = re.search(r"Faker (\d+(?:\.\d+)+)", (HOME / "data" / "README.md").read_text(encoding="utf-8"))
    if version("faker") != made_with.group(1):
        pytest.skip(f"the shipped rows were made with Faker {made_with.group(1)}")
    splits = make_data.make_splits(make_data.load_language(language))
    for split, sentences in splits.items():
        rows = shipped[language][split]
        assert [list(sentence.tokens) for sentence in sentences] == rows["tokens"][:]
        assert [list(sentence.tags) for sentence in sentences] == rows["ner_tags"][:]


def test_a_template_gives_the_tokens_and_tags_it_says():
    rules = {
        "years": [1900, 2000],
        "lower": 0,
        "joins": [[r"\bde $", "[AEIOU]", "d'"]],
        "entities": {"PER": {"man": ["{first} {last}"]}, "ORG": {"club": ["Stade de {town}"]}},
        "mixed": {"who": ["man"]},
    }
    atoms = {"test": {"first": ["Jean-Luc"], "last": ["N. Roy"], "town": ["Albi"]}}
    language = make_data.Language("xx", rules, {"job": ["juge"]}, atoms)
    made = language.sentence("L'ami de {who}, {job} (d'ici|d'ici), aime {club}.", "test", random.Random(0))
    assert " ".join(made.tokens) == "L'ami de Jean-Luc N. Roy , juge d'ici , aime Stade d'Albi ."
    assert [TAGS[tag] for tag in made.tags] == [*"OO", "B-PER", "I-PER", "I-PER", *"OOOOO", "B-ORG", "I-ORG", "O"]
    assert made.entities == ("Jean-Luc N. Roy", "Stade d'Albi")
    assert language.sentence("de {town}", "test", random.Random(0)).tokens == ("d'", "Albi")


def test_what_cannot_be_filled_or_found_is_named():
    rules = {"years": [1900, 2000], "lower": 0, "entities": {}, "mixed": {}}
    language = make_data.Language("xx", rules, {}, {"test": {}})
    with pytest.raises(UserError, match=r"xx\.yaml has a slot \{nobody\}"):
        language.sentence("{nobody}", "test", random.Random(0))
    with pytest.raises(UserError, match="no templates for the language 'tlh'"):
        make_data.load_language("tlh")


def test_the_shipped_files_are_small():
    assert sum(path.stat().st_size for path in (HOME / "data").rglob("*") if path.is_file()) < 600_000
    assert (HOME / "model" / "tokenizer.json").stat().st_size < 200_000


def test_the_tokenizer_is_bert_style_and_fits_the_model(tokenizer):
    assert tokenizer.is_fast
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    pair = tokenizer("Paris", "Rom")
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Paris", "Rom"))
    assert pair["input_ids"] == [2, *first, 3, *second, 3]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    config = AutoConfig.from_pretrained(HOME / "model")
    assert config.vocab_size == len(tokenizer) == 8_000
    assert tokenizer.model_max_length == config.max_position_embeddings == 128
    assert AutoModelForMaskedLM.from_config(config).num_parameters() < 2_000_000


def test_a_sentence_of_each_language_survives_the_tokenizer_but_for_spaces(tokenizer):
    for sentence in SENTENCES.values():
        back = tokenizer.decode(tokenizer(sentence)["input_ids"], skip_special_tokens=True)
        assert back.replace(" ", "") == sentence.replace(" ", "")


def test_few_pieces_of_the_shipped_sentences_are_unknown(tokenizer, shipped):
    for language, splits in shipped.items():
        encoded = tokenizer(splits["test"]["tokens"][:], is_split_into_words=True)["input_ids"]
        unknown = sum(ids.count(tokenizer.unk_token_id) for ids in encoded) / sum(map(len, encoded))
        assert unknown < (0.06 if language == "zh" else 0.005)
        assert max(map(len, encoded)) <= tokenizer.model_max_length


def test_training_a_tokenizer_twice_gives_the_same_pieces():
    texts = [f"{left}{right} {right}{left}, 人{left}" for left in "abcdefgh" for right in "ijklmnop"]
    first, second = (make_tokenizer.train_tokenizer(texts, vocabulary=80, alphabet=15) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert len(first) == 80
    assert first.tokenize("pz") == ["[UNK]"]
    assert first.tokenize("人人") == ["人", "人"]


def test_fertility_counts_pieces_words_and_characters(tokenizer):
    text = "他 Xylofon ☃"
    pieces = tokenizer.tokenize(text)
    found = make_tokenizer.fertility(tokenizer, "xx", [text, text])
    assert found.per_word == pytest.approx(len(pieces) / 3)
    assert found.per_character == pytest.approx(len(pieces) / 11)
    assert found.unknown == pytest.approx(1 / len(pieces))


def test_a_sample_of_texts_has_exactly_the_characters_asked_for():
    texts = ["a" * 70, "b" * 50, "c" * 30]
    assert sum(map(len, make_tokenizer.sample(texts, 100))) == 100
    assert sorted(make_tokenizer.sample(texts, 1_000)) == texts


def test_missing_texts_are_named_without_a_traceback(tmp_path, capsys):
    assert make_tokenizer.main(["--texts", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"No texts for 'ar': .*train\.parquet does not exist\. [^\n]*\n", error)
    assert not (tmp_path / "out").exists()
