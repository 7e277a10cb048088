"""Reading sentence pairs: every file type alike, what is left out, and what each error says."""

import csv
import json
from pathlib import Path

import datasets
import pandas as pd
import pytest

from lnsub.analysis.parallel import hub_split
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.analysis.parallel.sources import find_sources, read_pairs, read_texts
from lnsub.common.errors import UserError

ROWS = [
    ("The cat sat.", "Le chat s'est assis."),
    ("1984", "1984."),
    ('He said "no", twice.', "Il a dit « non », deux fois."),
    ("null", "NA"),
    ("Two\u2028lines", "Deux"),
]


def write(path: Path, rows: list[tuple], names: tuple[str, ...] = ("en", "other")) -> Path:
    table = pd.DataFrame(rows, columns=list(names))
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        records = table.astype(object).where(table.notna(), None).to_dict("records")
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records), encoding="utf-8")
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_NONE)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_every_file_type_gives_the_same_text(tmp_path, suffix):
    pairs = read_pairs(write(tmp_path / f"fr{suffix}", ROWS))
    assert pairs == Pairs("fr", tuple(a for a, _ in ROWS), tuple(b for _, b in ROWS))


def test_a_tsv_keeps_quotation_marks_that_do_not_close(tmp_path):
    pairs = read_pairs(write(tmp_path / "fr.tsv", [('"Yes', '"Oui'), ("No", "Non"), ("So", "Donc")]))
    assert pairs.first == ('"Yes', "No", "So")


def test_blank_and_repeated_sentences_are_left_out_and_counted(tmp_path):
    rows = [("a", "A"), ("b", None), ("  ", "C"), ("a", "D"), ("e", "A"), (" f ", "F"), ("", "")]
    for suffix in (".parquet", ".jsonl"):
        pairs = read_pairs(write(tmp_path / f"fr{suffix}", rows))
        assert pairs == Pairs("fr", ("a", "f"), ("A", "F"), empty=3, repeated=2)


@pytest.mark.parametrize("names", [("en", "other"), ("en", "fr"), ("en", "translation")])
def test_the_other_column_is_other_or_the_language_or_the_only_one_left(tmp_path, names):
    assert read_pairs(write(tmp_path / "fr.csv", ROWS, names)).second[0] == ROWS[0][1]


def test_columns_may_come_in_any_order_and_among_others(tmp_path):
    path = write(tmp_path / "fr.csv", [("7", "Oui", "Yes"), ("8", "Non", "No")], ("id", "fr", "en"))
    assert read_pairs(path) == Pairs("fr", ("Yes", "No"), ("Oui", "Non"))


def test_a_subset_is_the_same_each_time_in_order_and_not_simply_the_first(tmp_path):
    path = write(tmp_path / "fr.csv", [(f"e{i}", f"o{i}") for i in range(100)])
    some = read_pairs(path, 10)
    numbers = [int(text[1:]) for text in some.first]
    assert some == read_pairs(path, 10)
    assert some.second == tuple(f"o{i}" for i in numbers)
    assert numbers == sorted(set(numbers))
    assert numbers != list(range(10))
    assert len(some) == 10
    assert len(read_pairs(path, 1000)) == 100


def test_languages_are_found_in_folders_and_files_and_come_in_the_order_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("ru.parquet", "fr.csv"):
        write(tmp_path / "a" / name, ROWS)
    (tmp_path / "a" / "README.md").write_text("not pairs")
    sw = write(tmp_path / "sw.jsonl", ROWS)
    assert list(find_sources([tmp_path / "a", sw])) == ["fr", "ru", "sw"]
    assert find_sources([tmp_path / "a", sw], ["sw", "fr"]) == {"sw": sw, "fr": tmp_path / "a" / "fr.csv"}


def test_files_that_cannot_be_used_are_named(tmp_path):
    fr = write(tmp_path / "fr.csv", ROWS)
    write(tmp_path / "fr.tsv", ROWS)
    (tmp_path / "fr.txt").write_text("")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"There is no file or folder '.*de\.csv'"):
        find_sources([tmp_path / "de.csv"])
    with pytest.raises(UserError, match=r"fr\.txt' cannot be read: .* \.parquet, \.jsonl, \.csv, \.tsv"):
        find_sources([tmp_path / "fr.txt"])
    with pytest.raises(UserError, match=r"none' has no file of sentence pairs"):
        find_sources([tmp_path / "none"])
    with pytest.raises(UserError, match=r"'fr' has two files, .*fr\.csv' and .*fr\.tsv'"):
        find_sources([tmp_path])
    with pytest.raises(UserError, match="no sentence pairs for 'ur': there are for fr"):
        find_sources([fr], ["fr", "ur"])
    with pytest.raises(UserError, match="No language is named"):
        find_sources([fr], [])


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("source", "target", "id"), "'en'"),
        (("en", "x", "y"), "'other' or 'fr'"),
        (("en",), "'other'"),
        (("x",), "'en'"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(tmp_path, names, missing):
    path = write(tmp_path / "fr.csv", [tuple(names)] * 3, names)
    found = ", ".join(f"'{name}'" for name in names)
    with pytest.raises(UserError, match=f"has no column {missing}.*: it has {found}; choose two with --columns"):
        read_pairs(path)


def test_contents_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(UserError, match="has 1 usable sentence pair in 2 rows"):
        read_pairs(write(tmp_path / "fr.csv", [("a", "A"), ("", "B")]))
    with pytest.raises(UserError, match="has no usable sentence pairs in 1 rows"):
        read_pairs(write(tmp_path / "de.csv", [("", "B")]))
    with pytest.raises(UserError, match=r"The sentence in row 1, column 'other' of '.*ur\.parquet' is not text: 5"):
        read_pairs(write(tmp_path / "ur.parquet", [("a", 5), ("b", 6)]))
    with pytest.raises(UserError, match=r"The sentence in row 2, column 'en' of '.*sw\.jsonl' is not text: 7"):
        read_pairs(write(tmp_path / "sw.jsonl", [("a", "A"), (7, "B")]))
    with pytest.raises(UserError, match="max_pairs is 1"):
        read_pairs(tmp_path / "fr.csv", 1)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_a_broken_or_empty_file_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"fr{suffix}"
    path.write_bytes(b"\xff\xfe{\x00\xd8")
    with pytest.raises(UserError, match=r"fr\.\w+' "):
        read_pairs(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"fr\.\w+' "):
        read_pairs(path)


@pytest.mark.parametrize("rows", ["Hi, you,Salut\n", "Hi,Salut\nHi, you,Salut\n"])
def test_a_comma_outside_quotation_marks_is_an_error_and_no_other_sentence(tmp_path, rows):
    (tmp_path / "fr.csv").write_text("en,other\n" + rows)
    with pytest.raises(UserError, match=r"fr\.csv' cannot be read"):
        read_pairs(tmp_path / "fr.csv")


@pytest.mark.parametrize(
    ("file", "names", "expected"),
    [
        ("fr-de.tsv", ("fr", "de"), ("fr", "de")),
        ("fr.tsv", ("fr", "de"), ("de", "fr")),
        ("en-fr.csv", ("en", "fr"), ("en", "fr")),
        ("fr-en.csv", ("fr", "en"), ("en", "fr")),
        ("sw.csv", ("ru", "other"), ("ru", "sw")),
    ],
)
def test_two_columns_of_any_languages_are_pairs(tmp_path, file, names, expected):
    """The file that is named for one language holds that one's pairs with the other; one named for both, theirs."""
    pairs = read_pairs(write(tmp_path / file, [("a", "A"), ("b", "B")], names))
    assert (pairs.pivot, pairs.language) == expected
    swapped = expected[0] != names[0]
    assert (pairs.first, pairs.second) == ((("A", "B"), ("a", "b")) if swapped else (("a", "b"), ("A", "B")))


def test_columns_choose_among_more_than_two(tmp_path):
    path = write(tmp_path / "all.csv", [("e", "f", "d"), ("E", "F", "D")], ("en", "fr", "de"))
    pairs = read_pairs(path, columns=("de", "fr"))
    assert (pairs.pivot, pairs.language, pairs.first, pairs.second) == ("de", "fr", ("d", "D"), ("f", "F"))
    assert pairs.name == "fr (with de)"
    with pytest.raises(UserError, match=r"all\.csv' has no column 'ru': it has 'en', 'fr', 'de'"):
        read_pairs(path, columns=("de", "ru"))


def test_a_column_of_translations_stands_for_its_languages(tmp_path):
    rows = [{"translation": {"fr": "F", "en": "E"}}, {"translation": None}, {"translation": {"fr": "G", "en": "H"}}]
    (tmp_path / "opus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = Pairs("fr", ("E", "H"), ("F", "G"), empty=1)
    assert read_pairs(tmp_path / "opus.jsonl") == expected
    pd.DataFrame(rows).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    assert read_pairs(tmp_path / "test-00000-of-00001.parquet") == expected


@pytest.fixture
def translations(tmp_path: Path) -> Path:
    """As WMT14 lies on the Hub: a configuration a pair of languages, and a column ``translation``."""
    root, lines = tmp_path / "wmt", ["---", "configs:"]
    for configuration in ("de-en", "fr-en"):
        first, second = configuration.split("-")
        lines += [f"- config_name: {configuration}", "  data_files:"]
        for split in ("train", "test"):
            rows = [{"translation": {first: f"{first} {split} {i}", second: f"{second} {split} {i}"}} for i in range(5)]
            path = root / configuration / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_parquet(path)
            lines += [f"  - split: {split}", f"    path: {configuration}/{split}-*"]
    (root / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return root


def test_a_data_set_of_translations_is_read_by_configuration_and_split(translations):
    sources = find_sources([f"{translations}:fr-en", f"{translations}:de-en:train"])
    assert list(sources) == ["fr-en", "de-en"]
    fr, de = (read_pairs(source) for source in sources.values())
    assert (fr.pivot, fr.language, de.language) == ("en", "fr", "de")
    assert (fr.first[4], fr.second[4], de.first[0]) == ("en test 4", "fr test 4", "en train 0")
    assert read_pairs(sources["fr-en"], columns=("fr", "en")).pivot == "fr"
    (other,) = find_sources([f"{translations}:fr-en:validation"]).values()
    with pytest.raises(UserError, match="has no validation split for 'fr-en': it has train, test"):
        read_pairs(other)


def test_of_a_data_set_on_the_hub_only_the_split_is_fetched(translations, tmp_path, monkeypatch):
    """The folder stands for the Hub, whose data sets and folders of their layout ``datasets`` takes alike."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (translations / "fr-en" / "train-00000-of-00001.parquet").write_bytes(b"not to be read")
    monkeypatch.setattr(hub_split, "looks_local", lambda name: False)
    rows = hub_split.read_split(str(translations), "fr-en", "test", [["translation"]])
    assert [row["translation"]["fr"] for row in rows] == [f"fr test {i}" for i in range(5)]
    with pytest.raises(UserError, match="has no column source, target: it has translation"):
        hub_split.read_split(str(translations), "fr-en", "test", [["source", "target"]])


def test_a_hub_out_of_reach_is_one_sentence():
    (source,) = find_sources(["wmt/wmt14:fr-en"]).values()
    with pytest.raises(UserError, match=r"'wmt/wmt14' is neither a folder here nor .* for 'fr-en'"):
        read_pairs(source)


def write_texts(root: Path, **languages: list[str | None]) -> str:
    for language, texts in languages.items():
        (root / language).mkdir(parents=True)
        pd.DataFrame({"premise": texts, "label": range(len(texts))}).to_parquet(root / language / "test.parquet")
    return str(root)


def test_rows_of_parallel_data_are_the_same_in_every_language(tmp_path):
    """Row 2 is blank in French, row 3 repeats in Russian, row 4 in English: no language keeps them."""
    data = write_texts(
        tmp_path / "xnli", en=["a", "b", "c", "d", "a", "f"], fr=["A", "B", " ", "D", "E", "F"], ru=list("abcbef")
    )
    fr, ru = read_texts(data, "premise", ["fr", "ru", "en"])
    assert (fr.language, fr.first, fr.second) == ("fr", ("a", "b", "f"), ("A", "B", "F"))
    assert (ru.language, ru.first, ru.second) == ("ru", ("a", "b", "f"), ("a", "b", "f"))
    assert (fr.empty, fr.repeated) == (1, 2)
    (de,) = read_texts(data, "premise", ["en"], pivot="ru", max_pairs=2)
    assert (de.pivot, de.language, len(de)) == ("ru", "en", 2)


def test_parallel_data_that_is_not_parallel_is_refused(tmp_path):
    data = write_texts(tmp_path / "xnli", en=["a", "b"], fr=["A", "B", "C"])
    with pytest.raises(UserError, match="is not parallel: 'en' has 2 rows and 'fr' 3"):
        read_texts(data, "premise", ["fr"])
    with pytest.raises(UserError, match="has no column text"):
        read_texts(data, "text", ["fr"])
    with pytest.raises(UserError, match="No language is named that the pivot 'en' could be paired with"):
        read_texts(data, "premise", ["en"])
