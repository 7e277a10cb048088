from pathlib import Path

from lnsub import read_runs
from lnsub.runs.records import append, read_tree
from tests.support.report_tree import record


def test_the_table_holds_every_record_of_the_tree_and_its_folder(tmp_path: Path) -> None:
    records = [record("transfer", "xnli", s, t, 0.5) for s in (None, "fr") for t in ("ar", "fr", "ru")]
    append(tmp_path / "a" / "b" / "results.jsonl", records[:5])
    append(tmp_path / "c" / "results.jsonl", records[5:])
    frame = read_runs(tmp_path)
    there = [vars(r) for r in read_tree(tmp_path)]
    bare = frame.drop(columns=["run", "examples"]).astype(object)
    found = bare.where(bare.notna(), None).to_dict("records")
    assert set(frame["examples"]) == {None}
    assert found == there
    assert list(frame["run"]) == ["a/b"] * 5 + ["c"]


def test_an_empty_tree_gives_all_columns(tmp_path: Path) -> None:
    frame = read_runs(str(tmp_path))
    assert frame.empty
    assert {"run", "kind", "layer", "value"} <= set(frame.columns)


def test_sparsities_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    append(tmp_path / "results.jsonl", [record("imp", "xnli", "fr", "fr", 0.5, sparsity=s) for s in (0.3, 0.1 + 0.2)])
    assert read_runs(tmp_path)["sparsity"].nunique() == 1
