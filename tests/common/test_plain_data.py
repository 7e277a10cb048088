import os
import time
from pathlib import Path

import pytest

from lnsub.common.plain_data import DEEPEST, MOST_BYTES, UnreadableError, parse_json, parse_yaml, read_text


def test_plain_values_come_back() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "\\u00e9"]}') == {"a": [1, 2.5, None, True, "é"]}
    assert parse_yaml("a: [1, 2.5, null, true, é]\nb: &x {c: d}\ne: *x\n") == {
        "a": [1, 2.5, None, True, "é"],
        "b": {"c": "d"},
        "e": {"c": "d"},
    }
    assert parse_yaml("2020-01-01: !!set {a}\n1: 2020-01-01 10:00:00\n") == {
        "2020-01-01": ["a"],
        "1": "2020-01-01 10:00:00",
    }
    assert parse_json("[" * DEEPEST + "]" * DEEPEST) == parse_yaml("[" * DEEPEST + "]" * DEEPEST)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1,]", "nul", "9" * 5000, "1" + "0" * 25, '"\\ud800"'),
        *("[" * 100_000, "[" * 1000 + "]" * 1000, "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), '{"a":' * 100_000),
    ],
    ids=lambda text: text[:12],
)
def test_json_beyond_bounds_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError) as raised:
        parse_json(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        *("[", "a: b: c", "\t- a", "*a", "&a [*a]", "a: 0x" + "f" * 100, "9" * 5000, "!!int a", "!!bool a"),
        *("!!python/name:os.system", "!!timestamp a", "!!int ''", "? [a]\n: b", "a\0b"),
        "[" * 100_000,
        "- " * 100_000,
        "[" * 1000 + "]" * 1000,
        "a: &a " + "x" * 1000 + "\nb: [" + "*a, " * 10_000 + "]",
    ],
    ids=lambda text: text[:12],
)
def test_yaml_beyond_bounds_is_refused(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(UnreadableError) as raised:
        parse_yaml(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert time.monotonic() - start < 5


def test_only_a_small_regular_file_of_text_is_read(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("é")
    assert read_text(tmp_path / "good") == "é"
    (tmp_path / "large").write_bytes(b" " * (MOST_BYTES + 1))
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    os.mkfifo(tmp_path / "fifo")
    for name in ("large", "binary", "fifo", "."):
        with pytest.raises(UnreadableError):
            read_text(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nowhere")
