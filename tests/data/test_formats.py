"""Each file format: the text is that of the file, whatever else is in it, and what is broken is one line."""

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from lnsub.common.errors import UserError
from lnsub.data.formats import SUFFIXES, read_file
from tests.support.data_makers import write_rows

TEXTS = [
    *("2024-01-01", "2024-01-01T00:00:00Z", "12:30", "1984", "1.0", "1e5", "-0", "007", "0x1f"),
    *("true", "False", "null", "None", "NA", "NaN", "nan", "N/A", "", " ", " a ", "#N/A", "inf"),
    *("it's", "a, b", "ع中é😀", "a\u2028b", "a\u0085b", "\\n"),
]
ONLY_QUOTED = ['a "red" cat', "two\nlines", "two\r\nlines", '"', "a\tb"]
"""What a TSV cannot hold, or holds as it is."""

ROWS = [suffix for suffix in SUFFIXES if not suffix.startswith(".conllu")]
SEPARATED = [suffix for suffix in ROWS if suffix.startswith((".csv", ".tsv"))]
JSON = [suffix for suffix in ROWS if suffix.startswith((".json", ".ndjson"))]


def refusal(path: Path, columns: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        read_file(path, columns)
    message = str(caught.value)
    assert f"'{path}'" in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.parametrize("suffix", ROWS)
def test_text_stays_the_text_that_it_is_in_the_file(tmp_path, suffix):
    path = tmp_path / f"train{suffix}"
    texts = TEXTS if suffix.startswith(".tsv") else TEXTS + ONLY_QUOTED
    write_rows(path, {"text": texts, "label": [0] * len(texts)})
    assert read_file(path, ["text"]).to_pydict() == {"text": texts}
    # a column of nothing but what looks like dates, numbers or nothing
    for alike in (["2024-01-01"] * 3, ["1984"] * 3, ["null"] * 3, ["true"] * 3, ["1.0"] * 3):
        write_rows(path, {"n": [0] * 3, "text": alike})
        assert read_file(path, ["text"]).to_pydict() == {"text": alike}


@pytest.mark.parametrize("suffix", [suffix for suffix in ROWS if suffix not in SEPARATED])
def test_words_stay_the_words_that_they_are_in_the_file(tmp_path, suffix):
    words = [TEXTS, ["2024-01-01"], [], ["1", "2"]]
    write_rows(tmp_path / f"train{suffix}", {"tokens": words})
    assert read_file(tmp_path / f"train{suffix}", ["tokens"]).to_pydict() == {"tokens": words}


@pytest.mark.parametrize("suffix", SEPARATED)
def test_quotation_marks_of_a_tsv_are_part_of_its_text(tmp_path, suffix):
    separator = "\t" if suffix.startswith(".tsv") else ","
    text = f'text{separator}label\r\n"a" cat{separator}0\r\n'.encode()
    (tmp_path / f"x{suffix}").write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    expected = '"a" cat' if suffix.startswith(".tsv") else "a cat"
    assert read_file(tmp_path / f"x{suffix}", ["text", "label"]).to_pydict() == {"text": [expected], "label": ["0"]}


@pytest.mark.parametrize("suffix", ROWS)
def test_the_columns_of_parquet_and_text_are_the_same(tmp_path, suffix):
    columns = {"text": ["a", "b", "c"], "other": ["d", "e", "f"], "label": [0, 1, 2]}
    write_rows(tmp_path / f"train{suffix}", columns)
    expected = {"label": list("012") if suffix in SEPARATED else [0, 1, 2], "text": ["a", "b", "c"]}
    read = read_file(tmp_path / f"train{suffix}", ["label", "text"])
    assert read.to_pydict() == expected
    assert read.column_names == ["label", "text"]
    message = refusal(tmp_path / f"train{suffix}", ["text", "premise", "hypothesis"])
    assert message.endswith("has no column premise, hypothesis: it has text, other, label.")


UNUSED: dict[str, list[Any]] = {
    "mixed": [1, "x", None],
    "map": [{"a": 1}, {"b": "c"}, {}],
    "deeper": [[1], [[2]], "3"],
    "date": ["2024-01-01", 5, True],
    "large": [10**30, 1, 2],
}


@pytest.mark.parametrize("suffix", JSON)
@pytest.mark.parametrize("name", UNUSED)
def test_a_column_that_is_not_used_refuses_no_file_of_json(tmp_path, suffix, name):
    write_rows(tmp_path / f"x{suffix}", {name: UNUSED[name], "text": ["a", "b", "c"]})
    assert read_file(tmp_path / f"x{suffix}", ["text"]).to_pydict() == {"text": ["a", "b", "c"]}


def test_a_column_that_is_not_used_refuses_no_parquet_or_csv(tmp_path):
    table = pa.table(
        {
            "map": pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
            "time": pa.array([1, 2], pa.duration("s")),
            "text": ["a", "b"],
        }
    )
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    assert read_file(tmp_path / "x.parquet", ["text"]).to_pydict() == {"text": ["a", "b"]}
    (tmp_path / "x.csv").write_bytes(b"odd,text\ncaf\xe9,a\n1,b\n")
    assert read_file(tmp_path / "x.csv", ["text"]).to_pydict() == {"text": ["a", "b"]}


def test_the_categories_and_the_index_of_pandas_are_plain_columns(tmp_path):
    frame = pd.DataFrame({"text": pd.Categorical(["b", "a", "b"]), "label": [0, 1, 2]}, index=[5, 6, 7])
    frame.to_parquet(tmp_path / "x.parquet")
    read = read_file(tmp_path / "x.parquet", ["text", "label"])
    assert read.to_pydict() == {"text": ["b", "a", "b"], "label": [0, 1, 2]}
    assert pa.types.is_string(read.schema.field("text").type) or pa.types.is_large_string(
        read.schema.field("text").type
    )


@pytest.mark.parametrize("suffix", ROWS)
def test_long_lines_are_read(tmp_path, suffix):
    texts = ["short", "x" * 1_400_000, "y" * 5_000_000, "short"]
    write_rows(tmp_path / f"x{suffix}", {"text": texts, "label": [0, 1, 2, 0]})
    assert read_file(tmp_path / f"x{suffix}", ["text"]).to_pydict() == {"text": texts}


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".parquet" and not s.endswith(".gz")])
@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_and_the_line_ends_of_windows_do_not_matter(tmp_path, suffix, packed):
    texts = {
        ".json": '[{"text": "a"},\n{"text": "é"}]',
        ".csv": "text,label\na,0\né,0\n",
        ".tsv": "text\tlabel\na\t0\né\t0\n",
        ".conllu": "1\ta\tb\tX\t_\t_\t_\t_\t_\t_\n\n1\té\tb\tX\t_\t_\t_\t_\t_\t_\n\n",
    }
    text = texts.get(suffix, '{"text": "a"}\n\n{"text": "é"}\n')
    data = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    path = tmp_path / (f"x{suffix}.gz" if packed else f"x{suffix}")
    path.write_bytes(gzip.compress(data) if packed else data)
    column = "tokens" if suffix == ".conllu" else "text"
    assert read_file(path, [column])[column].to_pylist() == ([["a"], ["é"]] if suffix == ".conllu" else ["a", "é"])


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".parquet"])
def test_another_encoding_is_refused_with_the_byte(tmp_path, suffix):
    texts = {
        ".json": '[{"text": "café"}]',
        ".csv": "text,label\ncafé,0\n",
        ".tsv": "text\tlabel\ncafé\t0\n",
        ".conllu": "1\tcafé\tb\tX\t_\t_\t_\t_\t_\t_\n\n",
    }
    text = texts.get(suffix.removesuffix(".gz"), '{"text": "a"}\n{"text": "café"}\n')
    data = text.encode("latin-1")
    (tmp_path / f"x{suffix}").write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    (tmp_path / "y.jsonl").write_text('{"text": "fine"}')
    message = refusal(tmp_path / f"x{suffix}", ["tokens" if "conllu" in suffix else "text"])
    assert message.endswith(f"byte {text.index('é')} (counting from 0) is 0xe9, which is not UTF-8")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_utf_16_is_refused_with_its_first_byte(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes('text\n{"text": "a"}\n'.encode("utf-16"))
    assert "byte 0 (counting from 0) is 0xff" in refusal(tmp_path / f"x{suffix}", ["text"])


BROKEN = {
    "nested": (".jsonl", b'{"text": ' + b"[" * 100_000, "line 1 is not JSON: it is nested too deeply"),
    "nested list": (".json", b"[" * 100_000, "record 0 .* is not JSON: it is nested too deeply"),
    "digits": (".jsonl", b'{"text": "a"}\n{"text": ' + b"1" * 5000 + b"}", "line 2 is not JSON: .*4300 digits"),
    "long number": (".jsonl", b'{"text": 1}\n{"text": ' + b"1" * 30 + b"}", "'text' of record 1 .* 64 bits"),
    "nul": (".jsonl", b'{"text": "a\x00b"}', "line 1 is not JSON: Invalid control character at .*character 11"),
    "zeros": (".jsonl", bytes(1000), "line 1 is not JSON"),
    "zeros csv": (".csv", bytes(1000), "Empty CSV file"),
    "half a pair": (".jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}', "'text' of record 1 .*surrogate"),
    "half a pair in words": (".jsonl", b'{"text": ["a", "\\ud83d"]}', "'text' of record 0 .*surrogate"),
    "types": (".jsonl", b'{"text": "a"}\n{"text": 1984}', "'text' of record 1 .*not of the type of those before"),
    "cut off": (".jsonl", b'{"text": "a"}\n{"text": "b', "line 2 is not JSON: Unterminated string .* character 9"),
    "cut off list": (".json", b'[{"text": "a"}, {"text": "b"}', r"ends without a \] after record 1"),
    "cut off in a list": (".json", b'[{"text": "a"}, {"text": "b', "record 1 .* is not JSON: Unterminated string"),
    "comma": (".json", b'[{"text": "a"} {"text": "b"}]', r"ends without a \] after record 0"),
    "two lists": (".json", b'[{"text": "a"}] [{"text": "b"}]', "something after its list"),
    "columns": (".json", b'{"text": {"0": "a"}}\n["b"]', "line 2 is no object of columns: expected one a line, or a"),
    "pretty": (".json", b'{\n "text": "a"\n}', "line 1 is not JSON: Expecting property name"),
    "no records": (".json", b'["a", "b"]', r"record 0 \(counting from 0\) is no object of columns"),
    "empty": (".jsonl", b"", "has no column text: it has none"),
    "empty list": (".json", b"[]", "has no column text: it has none"),
    "space": (".jsonl", b" \n\r\n", "has no column text: it has none"),
    "fields": (".csv", b"text,label\na,0\nb\n", "Expected 2 columns, got 1"),
    "fields of tsv": (".tsv", b"text\tlabel\na\t0\nb\t1\t2\n", "Expected 2 columns, got 3"),
    "open quote": (".csv", b'text,label\na,0\n"b,1\nc,2\n', "CSV parse error"),
    "open quote at the end": (".csv", b'label,text\n0,5" tall\n1,"b"\n2,"c\n0,d\n', "quotation mark .* is not closed"),
    "open quote cut off": (".csv.gz", gzip.compress(b'label,text\n0,a\n1,"b'), "quotation mark .* is not closed"),
    "twice": (".csv", b"text,text\na,b\n", "has more than one column text: keep one"),
    "no gzip": (".jsonl.gz", b'{"text": "a"}', "Not a gzipped file"),
    "cut off gzip": (".jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999)[:-30], "ended before"),
    "cut off gzip csv": (".csv.gz", gzip.compress(b"text\n" + b"a\n" * 999)[:-30], "ended before"),
    "damaged gzip": (".csv.gz", gzip.compress(b"text\n" + b"abc\n" * 999)[:-8] + bytes(8), "CRC check failed"),
    "deflate": (".jsonl.gz", gzip.compress(b"a")[:10] + b"\xff" * 40, "rror -3"),
    "parquet": (".parquet", b"PAR1 nothing PAR1", "cannot be read"),
    "short parquet": (".parquet", b"P", "cannot be read"),
    "text": (".txt", b"a", r"its name ends in none of \.parquet, \.jsonl"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_in_one_line(tmp_path, name):
    suffix, data, message = BROKEN[name]
    (tmp_path / f"x{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_file(tmp_path / f"x{suffix}", ["text"])
    refusal(tmp_path / f"x{suffix}", ["text"])


def test_a_parquet_file_that_is_cut_off_or_damaged_anywhere_raises_nothing_else(tmp_path):
    path = tmp_path / "x.parquet"
    write_rows(path, {"text": [f"a sentence {i}" for i in range(500)]})
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        refusal(path, ["text"])
    for place in range(0, len(data), 61):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with suppress(UserError):
            assert read_file(path, ["text"]).column_names == ["text"]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, suffix):
    start = {".jsonl.gz": b"", ".json.gz": b'[{"text": "'}.get(suffix, b"text\n")
    piece = gzip.compress(b"a" * 2**24)
    with (tmp_path / f"x{suffix}").open("wb") as file:  # members of gzip, one after the other: 1 GiB
        file.write(gzip.compress(start))
        for _ in range(64):
            file.write(piece)
    assert "it unpacks to more than " in refusal(tmp_path / f"x{suffix}", ["text"])


def test_records_without_a_column_have_none_there_and_numbers_of_two_kinds_are_fractions(tmp_path):
    lines = [{"text": "a"}, {"text": None, "label": 1}, {"label": 0.5}] + [{"text": "b", "label": 2}] * 30_000
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read = read_file(path, ["text", "label"])
    assert read.slice(0, 4).to_pydict() == {"text": ["a", None, None, "b"], "label": [None, 1.0, 0.5, 2.0]}
    assert len(read) == 30_003


def test_lists_that_are_empty_in_one_batch_fit_those_of_another(tmp_path):
    lines = [{"tokens": []}] * 10_001 + [{"tokens": ["a"]}, {"tokens": None}] * 5_001
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    read = read_file(tmp_path / "x.jsonl", ["tokens"])["tokens"].to_pylist()
    assert read == [line["tokens"] for line in lines]
