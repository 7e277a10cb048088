"""Reading sentence pairs: every file type alike, what is left out, and what each error says."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from lnsub.analysis.retrieval.sentence_pairs import Pairs, find_files, read_pairs
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
    assert pairs.english == ('"Yes', "No", "So")


def test_blank_and_repeated_sentences_are_left_out_and_counted(tmp_path):
    rows = [("a", "A"), ("b", None), ("  ", "C"), ("a", "D"), ("e", "A"), (" f ", "F"), ("", "")]
    for suffix in (".parquet", ".jsonl"):
        pairs = read_pairs(write(tmp_path / f"fr{suffix}", rows))
        assert pairs == Pairs("fr", ("a", "f"), ("A", "F"), empty=3, repeated=2)


@pytest.mark.parametrize("names", [("en", "other"), ("en", "fr"), ("en", "translation")])
def test_the_other_column_is_other_or_the_language_or_the_only_one_left(tmp_path, names):
    assert read_pairs(write(tmp_path / "fr.csv", ROWS, names)).other[0] == ROWS[0][1]


def test_columns_may_come_in_any_order_and_among_others(tmp_path):
    path = write(tmp_path / "fr.csv", [("7", "Oui", "Yes"), ("8", "Non", "No")], ("id", "fr", "en"))
    assert read_pairs(path) == Pairs("fr", ("Yes", "No"), ("Oui", "Non"))


def test_a_subset_is_the_same_each_time_in_order_and_not_simply_the_first(tmp_path):
    path = write(tmp_path / "fr.csv", [(f"e{i}", f"o{i}") for i in range(100)])
    some = read_pairs(path, 10)
    numbers = [int(text[1:]) for text in some.english]
    assert some == read_pairs(path, 10)
    assert some.other == tuple(f"o{i}" for i in numbers)
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
    assert list(find_files([tmp_path / "a", sw])) == ["fr", "ru", "sw"]
    assert find_files([tmp_path / "a", sw], ["sw", "fr"]) == {"sw": sw, "fr": tmp_path / "a" / "fr.csv"}


def test_files_that_cannot_be_used_are_named(tmp_path):
    fr = write(tmp_path / "fr.csv", ROWS)
    write(tmp_path / "fr.tsv", ROWS)
    (tmp_path / "fr.txt").write_text("")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"There is no file or folder '.*de\.csv'"):
        find_files([tmp_path / "de.csv"])
    with pytest.raises(UserError, match=r"fr\.txt' cannot be read: .* \.parquet, \.jsonl, \.csv, \.tsv"):
        find_files([tmp_path / "fr.txt"])
    with pytest.raises(UserError, match=r"none' has no file of sentence pairs"):
        find_files([tmp_path / "none"])
    with pytest.raises(UserError, match=r"'fr' has two files, .*fr\.csv' and .*fr\.tsv'"):
        find_files([tmp_path])
    with pytest.raises(UserError, match="no sentence pairs for 'ur': there are for fr"):
        find_files([fr], ["fr", "ur"])
    with pytest.raises(UserError, match="No language is named"):
        find_files([fr], [])


@pytest.mark.parametrize(
    ("names", "missing"), [(("source", "target"), "'en'"), (("en", "x", "y"), "'other' or 'fr'"), (("en",), "'other'")]
)
def test_a_missing_column_is_named_with_those_there_are(tmp_path, names, missing):
    path = write(tmp_path / "fr.csv", [tuple(names)] * 3, names)
    found = ", ".join(f"'{name}'" for name in names)
    with pytest.raises(UserError, match=f"has no column {missing}.*: it has {found}"):
        read_pairs(path)


def test_contents_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(UserError, match="has 1 usable sentence pair in 2 rows"):
        read_pairs(write(tmp_path / "fr.csv", [("a", "A"), ("", "B")]))
    with pytest.raises(UserError, match="has no usable sentence pairs in 1 rows"):
        read_pairs(write(tmp_path / "de.csv", [("", "B")]))
    with pytest.raises(UserError, match=r"The other sentence in row 1 of .*ur\.parquet' is not text: 5"):
        read_pairs(write(tmp_path / "ur.parquet", [("a", 5), ("b", 6)]))
    with pytest.raises(UserError, match=r"The English sentence in row 2 of .*sw\.jsonl' is not text: 7"):
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
