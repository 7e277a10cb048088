"""A job is done when what it leaves is there and whole: each thing is taken away in turn, and is missed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lnsub.data.receipts import Receipt, receipt_path
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import append
from lnsub.study.leaves import CellsLeft, FileLeft, ReceiptLeft, RunLeft, from_plain, to_plain
from lnsub.tickets.finding import find_tickets
from lnsub.transfer.cells import plan
from tests.support.records import RECORD
from tests.support.ticket_factory import random_ticket

METRICS = ("accuracy", "loss")


def record_all(folder: RunFolder, kind: str, target: str, split: str = "validation", number: int | None = None) -> None:
    """Records one whole measurement."""
    append(
        folder.results,
        [replace(RECORD, kind=kind, target=target, split=split, round=number, metric=name) for name in METRICS],
    )


@pytest.fixture
def run(tmp_path: Path) -> RunLeft:
    """A whole run of two rounds of pruning."""
    folder = RunFolder.of(tmp_path / "runs", "xnli", "fr", 57)
    for number, sparsity in enumerate((0.0, 0.3, 0.6)):
        record_all(folder, "imp", "fr", number=number)
        if sparsity:
            random_ticket(1 - sparsity, number, sparsity=sparsity).save(folder.ticket(sparsity))
    return RunLeft(str(folder.path), "fr", (0.0, 0.3, 0.6), METRICS)


def spoil_ticket(keep: Callable[[bytes], bytes]) -> Callable[[RunFolder], None]:
    def spoil(folder: RunFolder) -> None:
        path = folder.ticket(0.6)
        path.write_bytes(keep(path.read_bytes()))

    return spoil


def cut_lines(count: int) -> Callable[[RunFolder], None]:
    def spoil(folder: RunFolder) -> None:
        lines = folder.results.read_bytes().splitlines(keepends=True)
        folder.results.write_bytes(b"".join(lines[:-count]))

    return spoil


SPOILT: dict[str, Callable[[RunFolder], None]] = {
    "a ticket is cut off at its end": spoil_ticket(lambda text: text[:-1]),
    "a ticket is cut off in its header": spoil_ticket(lambda text: text[:20]),
    "a ticket is empty": spoil_ticket(lambda _: b""),
    "a ticket is missing": lambda folder: folder.ticket(0.3).unlink(),
    "a ticket is a folder": lambda folder: (folder.ticket(0.3).unlink(), folder.ticket(0.3).mkdir())[0],
    "the last round has one metric of two": cut_lines(1),
    "the last round is not recorded": cut_lines(2),
    "no round is recorded": lambda folder: folder.results.unlink(),
    "the records are cut off amid a line": lambda folder: folder.results.write_bytes(folder.results.read_bytes()[:-9]),
    "the folder is missing": lambda folder: shutil.rmtree(folder.path),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_run_is_whole_with_all_rounds_and_tickets_alone(name, run):
    assert run.whole()
    SPOILT[name](RunFolder(Path(run.folder)))
    assert not run.whole()


def test_rounds_of_another_language_or_split_do_not_count(run):
    assert not replace(run, language="ur").whole()
    assert not replace(run, metrics=(*METRICS, "f1")).whole()
    assert not replace(run, sparsities=(0.0, 0.3, 0.6, 0.9)).whole()


def test_a_fine_tuning_without_pruning_is_one_record(tmp_path):
    left = RunLeft(str(tmp_path / "runs"), "fr", (0.0,), METRICS)
    assert not left.whole()
    record_all(RunFolder(tmp_path / "runs"), "dense", "fr")
    assert left.whole()


@pytest.fixture
def cells(tmp_path: Path) -> CellsLeft:
    """The whole cells of a ticket on two languages, with baselines, of which one has a test split."""
    ticket = tmp_path / "s0.50.safetensors"
    random_ticket(0.5, 1, language="fr").save(ticket)
    receipts = tmp_path / "receipts"
    for language, splits in (("fr", ["train", "validation", "test"]), ("ur", ["train", "validation"])):
        receipt = Receipt("xnli", language, "m", "d", False, dict.fromkeys(splits, 5), dict.fromkeys(splits, 50), [])
        receipt.write(receipt_path(receipts, "xnli", language))
    output = tmp_path / "transfer"
    left = CellsLeft(
        str(output),
        "xnli",
        (str(ticket),),
        ("fr", "ur"),
        5,
        ("dense", "random"),
        ("fr",),
        False,
        METRICS,
        str(receipts),
    )
    for cell in plan(find_tickets([str(ticket)]), "xnli", ["fr", "ur"], [5], ["dense", "random"], baselines_on=["fr"]):
        record_all(RunFolder(output / "cells" / cell.id), "transfer", cell.language)
        if cell.language == "fr":
            record_all(RunFolder(output / "cells" / cell.id), "transfer", "fr", "test")
    return left


def test_cells_are_whole_with_every_target_and_the_test_splits_that_there_are(cells):
    assert cells.whole()
    folders = sorted((Path(cells.output) / "cells").iterdir())
    assert len(folders) == 4
    for folder in folders:
        results = folder / "results.jsonl"
        text = results.read_text()
        for lines in range(len(text.splitlines())):
            results.write_text("".join(text.splitlines(keepends=True)[:lines]))
            assert not cells.whole(), (folder.name, lines)
        results.write_text(text)
    assert cells.whole()


def test_cells_of_other_tickets_and_without_tickets_are_not_there(cells):
    (path,) = map(Path, cells.tickets)
    assert not replace(cells, baselines_on=("fr", "ur")).whole()
    random_ticket(0.5, 2, language="fr").save(path)
    assert not cells.whole()
    path.write_bytes(path.read_bytes()[:-1])
    assert not cells.whole()
    path.unlink()
    assert not cells.whole()


def test_prepared_data_is_whole_while_its_tables_are_there(tmp_path):
    table = tmp_path / "cache" / "table.arrow"
    table.parent.mkdir()
    table.touch()
    paths = [receipt_path(tmp_path, "xnli", language) for language in ("fr", "ur")]
    left = ReceiptLeft(tuple(map(str, paths)))
    for path, language in zip(paths, ("fr", "ur"), strict=True):
        assert not left.whole()
        Receipt("xnli", language, "m", "d", False, {"train": 1}, {"train": 2}, [str(table)]).write(path)
    assert left.whole()
    text = paths[0].read_text()
    for broken in (text[:-9], "[]", "null", json.dumps({**json.loads(text), "format": "lnsub-receipt/2"})):
        paths[0].write_text(broken)
        assert not left.whole()
    paths[0].write_text(text)
    shutil.rmtree(table.parent)
    assert not left.whole()


def test_a_file_is_whole_once_it_is_there(tmp_path):
    left = FileLeft(str(tmp_path / "page.html"))
    assert not left.whole()
    (tmp_path / "page.html").touch()
    assert left.whole()


def test_what_is_left_comes_back_from_json_as_it_was(run, cells):
    for left in (run, cells, FileLeft("page.html"), ReceiptLeft(("a", "b"))):
        assert from_plain(json.loads(json.dumps(to_plain(left)))) == left
