"""Records and run folders: nothing is lost, nothing is counted twice, half a line is no error."""

import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record, append, read, read_counted, read_tree, records_of
from tests.support.records import RECORD


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    append(path, [RECORD])
    append(path, [replace(RECORD, metric="ہندی", value=float(2**-40))])
    assert read(path) == [RECORD, replace(RECORD, metric="ہندی", value=2**-40)]
    assert [json.loads(line)["round"] for line in path.read_text().splitlines()] == [1, 1]


def test_an_unfinished_last_line_is_skipped_and_spoils_nothing(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [RECORD, RECORD])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.warns(UserWarning, match="line 2 is not a whole record"):
        assert read(path) == [RECORD]
    append(path, [replace(RECORD, round=2)])
    with pytest.warns(UserWarning, match="line 2"):
        assert read(path) == [RECORD, replace(RECORD, round=2)]


def test_fields_of_newer_and_older_versions_are_no_obstacle(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [RECORD])
    row = json.loads(path.read_text())
    del row["layer"]
    path.write_text(json.dumps({**row, "from_the_future": 1}) + "\n")
    assert read(path) == [RECORD]


def test_a_tree_of_runs_is_read_whole_and_an_absent_file_is_empty(tmp_path):
    for language in ("fr", "ur"):
        RunFolder.of(tmp_path, "xnli", language, 57).record([replace(RECORD, target=language)])
    assert [record.target for record in read_tree(tmp_path)] == ["fr", "ur"]
    assert read(tmp_path / "none.jsonl") == []


def test_a_measurement_is_recorded_once(tmp_path):
    folder = RunFolder(tmp_path)
    folder.record([RECORD, replace(RECORD, metric="loss")])
    folder.record([replace(RECORD, wall_s=9.0), replace(RECORD, round=2)])
    assert [(r.round, r.metric, r.wall_s) for r in folder.records("imp")] == [
        (1, "accuracy", 1.5),
        (1, "loss", 1.5),
        (2, "accuracy", 1.5),
    ]
    assert folder.records("transfer") == []


def test_the_folder_is_laid_out_as_documented():
    folder = RunFolder.of("runs", "xnli", "fr", 57)
    assert folder.path == Path("runs/xnli/fr/seed57")
    assert folder.ticket(0.1) == folder.path / "tickets" / "s0.10.safetensors"
    assert folder.checkpoint == folder.path / "checkpoints" / "last.ckpt"


def test_one_measurement_gives_one_record_per_metric():
    facts = {f.name: getattr(RECORD, f.name) for f in fields(Record)} | {"source_seed": 58}
    for name in ("metric", "value", "lnsub_version", "time"):
        del facts[name]
    made = records_of({"accuracy": 0.5, "loss": 1}, **facts)
    assert [(r.metric, r.value) for r in made] == [("accuracy", 0.5), ("loss", 1.0)]
    assert all(getattr(record, name) == value for record in made for name, value in facts.items())
    with pytest.raises(TypeError, match="seed"):
        records_of({"accuracy": 0.5}, **{name: value for name, value in facts.items() if name != "seed"})


def test_a_file_that_is_far_too_large_is_refused_at_once(tmp_path):
    path = tmp_path / "results.jsonl"
    append(path, [RECORD])
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match="1,099,511,627,776 bytes"):
        read(path)


def test_a_line_that_is_far_too_long_is_skipped(tmp_path):
    path = tmp_path / "results.jsonl"
    line = json.dumps({**asdict(RECORD), "more": "x" * 2**20})
    path.write_text(f"{line}\n")
    append(path, [RECORD])
    assert read_counted(path) == ([RECORD], [1])
