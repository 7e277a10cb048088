"""Tokenised rows: used again by whoever asks for the same, and by nobody else."""

import logging
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.data import cache as cache_module
from lnsub.models.pretrained import load_tokenizer
from lnsub.tasks.xnli import XNLI
from tests.attacks.bits import Tally, of_table
from tests.support.data_makers import pairs, write_rows


def test_tokenised_rows_are_used_again_by_the_next_run(data, cache, bert):
    XNLI("fr", bert, str(data)).prepare_data()
    written = {path: path.stat() for path in cache.glob("*.arrow")}
    assert {path.suffix for path in cache.iterdir()} == {".arrow", ".sha256"}
    assert sorted(path.name.split("-")[2] for path in written) == ["test", "train", "validation"]
    moved = data.parent / "elsewhere"
    shutil.copytree(data, moved)  # new paths and times, the same content
    load_tokenizer(bert)("a", truncation=True, max_length=3, padding="max_length")  # leaves a state behind
    XNLI("fr", bert, str(moved), batch_size=2, seed=9).prepare_data()
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*.arrow")} == {
        p: s.st_mtime_ns for p, s in written.items()
    }


@pytest.mark.slow
def test_another_process_uses_the_same_tokenised_rows(data, cache, bert):
    module = XNLI("fr", bert, str(data))
    module.table("train")
    (path,) = cache.glob("*.arrow")
    before = path.stat()
    # Without its encoder a data module can only read what is in the cache.
    code = (
        "import sys; from lnsub import XNLI\nXNLI.encoder = None\nprint(len(XNLI('fr', *sys.argv[1:]).table('train')))"
    )
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache.parent), "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code, bert, str(data)], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["40"]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_whatever_changes_the_tokens_makes_a_new_table(data, cache, bert, mt5):
    def tables(language: str = "fr", tokenizer: str = bert, **settings: int) -> int:
        XNLI(language, tokenizer, str(data), **settings).table("train")
        return len(list(cache.glob("*.arrow")))

    assert tables() == 1
    assert tables(max_length=12) == 2
    assert tables(max_train_examples=5) == 3
    assert tables(max_eval_examples=5) == 3  # does not concern the train split
    assert tables(tokenizer=mt5) == 4
    assert tables(language="zh") == 5
    write_rows(data / "fr" / "train.parquet", pairs(39))
    assert tables() == 6


def test_a_subset_is_drawn_once_for_all_and_alike_in_parallel_languages(data, bert):
    def chosen(language: str, **settings: int) -> list[int]:
        return XNLI(language, bert, str(data), **settings).table("train")["index"][:]

    subset = chosen("fr", max_train_examples=10, seed=1)
    assert len(set(subset)) == 10
    assert subset != list(range(10))
    assert subset == chosen("zh", max_train_examples=10, seed=2)
    assert chosen("fr", max_train_examples=1000) == list(range(40))
    module = XNLI("fr", bert, str(data), max_eval_examples=3)
    assert [len(module.table(split)) for split in ("train", "validation", "test")] == [40, 3, 3]


def test_rows_without_text_are_skipped_and_counted(data, bert, caplog):
    columns = pairs(5)
    columns["premise"][1] = columns["hypothesis"][1] = "  "
    columns["premise"][2] = ""
    write_rows(data / "fr" / "train.parquet", columns)
    with caplog.at_level(logging.INFO, "lnsub"):
        table = XNLI("fr", bert, str(data)).table("train")
    assert table["index"][:] == [0, 2, 3, 4]
    assert "left out 1 rows without any text" in caplog.text
    write_rows(data / "fr" / "train.parquet", {"premise": [""], "hypothesis": [" "], "label": [0]})
    with pytest.raises(UserError, match=r"train\.parquet' has no row from which the tokenizer .* makes any token"):
        XNLI("fr", bert, str(data)).table("train")


def rows_of(bert: str, data: Path) -> list[dict[str, object]]:
    """The train split as a new run of another process sees it."""
    cache_module._checked.clear()
    return XNLI("fr", bert, str(data)).table("train").to_list()


@pytest.fixture
def table(data: Path, cache: Path, bert: str) -> Path:
    """The tokenised train split in the cache."""
    rows_of(bert, data)
    (path,) = cache.glob("*.arrow")
    return path


def test_every_flipped_bit_is_tokenised_away(data, bert, table):
    assert of_table(table, lambda: rows_of(bert, data), 200, random.Random(11)) == Tally(found=200, harmless=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.write_bytes(b""),
        lambda table: table.write_bytes(table.read_bytes()[:-1]),
        lambda table: table.write_bytes(b"not a table"),
        lambda table: table.with_name(f"{table.name}.sha256").unlink(),
        lambda table: table.with_name(f"{table.name}.sha256").write_text("0" * 64),
        lambda table: table.with_name(f"{table.name}.sha256").write_bytes(b"\xff"),
    ],
    ids=["empty", "cut off", "text", "no checksum", "another checksum", "a binary checksum"],
)
def test_a_table_without_its_checksum_is_tokenised_again(damage, data, bert, table, caplog):
    whole, rows = table.read_bytes(), rows_of(bert, data)
    damage(table)
    assert rows_of(bert, data) == rows
    assert table.name in caplog.text
    assert table.read_bytes() == whole
    caplog.clear()
    assert rows_of(bert, data) == rows
    assert not caplog.text
    assert {path.suffix for path in table.parent.iterdir()} == {".arrow", ".sha256"}


def test_a_table_is_read_through_once_while_it_stays_as_it_is(data, bert, table, monkeypatch):
    read = []
    checksum = cache_module._checksum
    monkeypatch.setattr(cache_module, "_checksum", lambda path: read.append(path) or checksum(path))
    rows_of(bert, data)
    for _ in range(2):
        XNLI("fr", bert, str(data)).table("train")
    assert read == [table]
    os.utime(table)
    XNLI("fr", bert, str(data)).table("train")
    assert read == [table, table]


def test_what_a_killed_process_left_half_written_is_swept_once_it_is_old(data, bert, table):
    old, new = (table.with_name(f"x.1-{name}.partial") for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    XNLI("zh", bert, str(data)).table("train")
    assert (old.exists(), new.exists()) == (False, True)


def test_an_encoder_with_a_limit_stops_tokenising_when_it_is_reached():
    tokenised: list[str] = []

    def twice(batch, numbers):
        tokenised.extend(batch["text"])
        return {"text": [text for text in batch["text"] for _ in range(2)]}

    encode = cache_module.stopping(twice, 5)
    made = [encode({"text": [f"{n}{i}" for i in range(2)]}, [2 * n, 2 * n + 1])["text"] for n in range(4)]
    assert made == [["00", "00", "01", "01"], ["10"], [], []]
    # Of a batch that is not needed, one row, which tells the columns.
    assert tokenised == ["00", "01", "10", "11", "20", "30"]
