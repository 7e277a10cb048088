"""Broken records, settings and tickets in a tree of runs: skipped with a count, and the page is written."""

import json
import os
import random
import time
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.runs.records import Record, append, read, read_counted
from lnsub.runs.settings import keep_settings
from lnsub.transfer.cell_folder import CellFolder
from tests.support.records import RECORD
from tests.support.report_tree import write_imp

GOOD = asdict(RECORD)
BAD_VALUES: dict[str, str] = {
    "a list": "[1, 2]",
    "an object": '{"a": 1}',
    "true": "true",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "5,000 digits": "9" * 5000,
    "a large number": "1" + "0" * 30,
    "half a surrogate": '"\\ud800"',
    "nested deeply": "[" * 50_000 + "]" * 50_000,
    "nested objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "a number": "0.5",
    "text": '"text"',
    "null": "null",
}
APART = {"condition", "source_condition"}
NAMED = {"pivot", "pivot_ticket", "trained_on", "removed", "drawn_for", "fill", "granularity", *APART}
ENDS = {"low", "high", "null", "null_low", "null_high"}
MAY_LACK = {"layer", "source_task", "source_seed", "units", "draw", *NAMED, *ENDS}
RIGHT = {  # which of them a field may have
    "a number": {"sparsity", "value", "wall_s", *ENDS},
    "text": {f for f in GOOD if isinstance(GOOD[f], str) or f in {"source", "score", "ticket", "source_task", *NAMED}},
    "null": {"source", "score", "round", "ticket", *MAY_LACK},
    "NaN": {"value"},
    "infinity": {"value"},
    "a large number": set(),
}


def line(field: str, value: str) -> bytes:
    """A record with one field's JSON replaced."""
    marked = json.dumps({**GOOD, field: "@@"})
    return marked.replace('"@@"', value).encode() + b"\n"


BROKEN: list[bytes] = [
    line(field, value) for field in GOOD for name, value in BAD_VALUES.items() if field not in RIGHT.get(name, set())
]
BROKEN += [
    *(line("sparsity", value) for value in ("-0.1", "1.5", "1e400")),
    line("n", "-1"),
    line("layer", "-1"),
    line("layer", "9" * 15),
    line("kind", '"retrieval"'),
    line("kind", '"similarity"'),
    line("kind", '"ablation"'),
    line("units", "-1"),
    line("draw", "-1"),
    b"[]\n",
    b'"a record"\n',
    b"null\n",
    b"{}\n",
    b"\xff\xfe\x00\n",
    b"\x00" * 100 + b"\n",
]
NEEDED = [name for name in GOOD if name not in {*MAY_LACK, "lnsub_version", "time"}]
BROKEN += [json.dumps({k: v for k, v in GOOD.items() if k != name}).encode() + b"\n" for name in NEEDED]


def test_every_broken_record_is_skipped_and_counted(tmp_path: Path) -> None:
    assert len(BROKEN) > 200
    path = tmp_path / "results.jsonl"
    for broken in BROKEN:
        path.write_bytes(json.dumps(GOOD).encode() + b"\n" + broken + json.dumps(GOOD).encode() + b"\n")
        assert read_counted(path) == ([RECORD, RECORD], [2]), broken[:200]
    path.write_bytes(b"".join(BROKEN))
    with pytest.warns(UserWarning, match=f"{len(BROKEN)} lines"):
        assert read(path) == []


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"], ids=ascii)
def test_a_name_may_hold_what_only_looks_like_a_line_break(character: str, tmp_path: Path) -> None:
    made = replace(RECORD, model=f"a{character}b")
    append(tmp_path / "results.jsonl", [made, RECORD])
    assert read_counted(tmp_path / "results.jsonl") == ([made, RECORD], [])


def noise(seed: int, count: int) -> list[bytes]:
    """Records with random changes, most of them of the right types."""
    draw = random.Random(seed)
    values: list[Any] = ["", "x" * 5000, "<script>", "../../x", "\x1b[2J", "en+", "nan", None]
    values += [0, -1, 2**62, 1e308, -1e308, 5e-324, float("nan"), float("inf")]
    kinds = {
        "kind": ["imp", "transfer", "zero_shot", "dense", "retrieval", "similarity"],
        "task": ["xnli", "wikiann", "mlm", "retrieval"],
        "metric": ["accuracy", "f1", "perplexity", "accuracy/mean/ratio-4", "accuracy@5/mean/ratio-4", "svcca/first"],
        "layer": [0, 1, 2, None],
        "target": ["fr", "ar", "random"],
    }
    lines = []
    for _ in range(count):
        row = GOOD | {name: draw.choice(choices) for name, choices in kinds.items()}
        for name in draw.sample(list(GOOD), draw.randint(1, 4)):
            row[name] = draw.choice(values)
        lines.append(json.dumps(row).encode() + b"\n")
    return lines


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for language in ("ar", "fr"):
        write_imp(tmp_path / "runs", "wikiann", language)
    return tmp_path / "runs"


def report(tree: Path) -> str:
    """The page of a tree."""
    page = tree.parent / "report.html"
    assert main(["report", str(tree), "-o", str(page), "--sparsities", "0.3"]) == 0
    return unescape(page.read_text(encoding="utf-8"))


def test_a_report_counts_broken_records_and_is_the_same_otherwise(tree: Path) -> None:
    before = report(tree)
    results = next(tree.rglob("results.jsonl"))
    results.write_bytes(results.read_bytes() + b"".join(BROKEN))
    after = report(tree)
    assert f"{len(BROKEN)} lines" in after
    assert str(results) in after
    assert after.count("<svg") == before.count("<svg")


@pytest.mark.parametrize("seed", range(6))
def test_records_of_right_types_and_absurd_values_lose_no_page(seed: int, tree: Path) -> None:
    def scripts() -> list[int]:
        report(tree)
        text = (tree.parent / "report.html").read_text(encoding="utf-8")
        return [text.count(tag) for tag in ("<script>", "<script", "</script")]

    own = scripts()
    (tree / "other").mkdir()
    (tree / "other" / "results.jsonl").write_bytes(b"".join(noise(seed, 60)))
    assert scripts() == own


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
SETTINGS: dict[str, str] = {
    "aliases": BOMB,
    "merged aliases": "b: &b {a: 1}\n" + "".join(f"c{n}: {{<<: *b, d: *b}}\n" for n in range(200_000)),
    "an alias of itself": "model: &a [*a]\n",
    "100,000 levels": "model: " + "[" * 100_000 + "\n",
    "100,000 levels, closed": "model: " + "{a: " * 100_000 + "}" * 100_000 + "\n",
    "100,000 levels by dashes": "- " * 100_000 + "a\n",
    "5,000 digits": f"seed_everything: {'9' * 5000}\n",
    "many hexadecimal digits": f"seed_everything: 0x{'f' * 500_000}\n",
    "an impossible date": "model: 2001-99-99\n",
    "a wrong tag": "model: !!timestamp later\n",
    "Python code": "model: !!python/object/apply:os.system [touch pwned]\n",
    "a list for arguments": "data: {class_path: lnsub.XNLI, init_args: [1, 2]}\n",
    "dates as keys": "model: {2001-01-01: {1: {2: [{3.5: a}]}}}\n",
    "a set": "model: !!set {a, b}\n",
    "bytes": "model: !!binary aGVsbG8=\n",
    "several documents": "a: 1\n---\nb: 2\n",
    "3 MB": "model: " + "x" * 3_000_000 + "\n",
    "control characters": "model: \x07\x00\n",
    "nothing": "",
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_hang_or_crash_a_reader_are_refused_and_lose_no_page(what: str, tree: Path) -> None:
    run = next(tree.rglob("results.jsonl")).parent
    (run / "config.yaml").write_text(SETTINGS[what], encoding="utf-8")
    start = time.monotonic()
    report(tree)
    with pytest.raises(ValueError, match=r"config\.yaml|holds a run"):
        keep_settings(run / "config.yaml", {"seed_everything": 57})
    assert time.monotonic() - start < 20
    assert not Path("pwned").exists()


def test_aliases_of_a_sane_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: &a [1, 2]\nb: *a\nc: {d: &d 2020-01-01, e: *d}\n")
    keep_settings(tmp_path / "config.yaml", {"a": [1, 2], "b": [1, 2], "c": {"d": "2020-01-01", "e": "2020-01-01"}})
    with pytest.raises(UserError, match=r"other settings: b was"):
        keep_settings(tmp_path / "config.yaml", {"a": [1, 2], "b": [1, 3], "c": {"d": "2020-01-01", "e": "2020-01-01"}})


@pytest.mark.parametrize("name", ["results.jsonl", "config.yaml", "t.safetensors"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling"])
def test_what_is_no_file_loses_no_page(name: str, kind: str, tree: Path) -> None:
    before = report(tree)
    place = tree / "odd" / name
    place.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    assert report(tree).count("<svg") == before.count("<svg")


def test_a_damaged_ticket_is_left_out_of_the_page_and_named(tree: Path) -> None:
    path = sorted(tree.rglob("s0.30.safetensors"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert str(path) in report(tree)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"{}", b"[]", b"\xff", b'{"reason": ' + b"9" * 5000 + b"}", b"", None],
    ids=lambda c: str(c)[:12],
)
def test_a_broken_note_of_a_failure_is_named(content: bytes | None, tmp_path: Path) -> None:
    folder = CellFolder(tmp_path)
    assert folder.reason() is None
    if content is None:
        os.mkfifo(folder.failure)
    else:
        folder.failure.write_bytes(content)
    assert "failed.json" in str(folder.reason())


def test_the_records_fields_are_all_attacked() -> None:
    assert set(GOOD) == set(Record.__dataclass_fields__)
