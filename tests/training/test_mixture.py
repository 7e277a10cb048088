"""A run on a mixture of languages: what is measured on the whole and on each part, and what a folder may lack."""

import json
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from lnsub.runs.folder import RunFolder
from lnsub.tasks.xnli import XNLI
from lnsub.training.checkpoint_files import load_weights
from lnsub.training.module import SubnetModule
from tests.support.resuming import IMP, Place, run

MIXED = {"language": "en+fr", "max_train_examples": 40, "shares": [0.7, 0.3]}


def test_each_round_is_measured_on_the_whole_and_on_each_part(place, tmp_path):
    run(place, tmp_path, every=None, data=MIXED, **IMP)
    folder = RunFolder(tmp_path)
    whole = {r.round: r for r in folder.records("imp")}
    parts = {(r.round, r.target): r for r in folder.records("part")}
    assert set(parts) == {(number, language) for number in whole for language in ("en", "fr")}
    for number, record in whole.items():
        en, fr = parts[number, "en"], parts[number, "fr"]
        assert (record.source, record.target, record.trained_on) == ("en+fr", "en+fr", None)
        assert (en.source, en.trained_on, en.ticket, en.sparsity) == ("en+fr", "en+fr", record.ticket, record.sparsity)
        assert (record.n, en.n, fr.n) == (21, 12, 9)
        # The accuracy over all pairs is the parts' accuracies weighted by their pairs.
        assert record.value == pytest.approx((12 * en.value + 9 * fr.value) / 21)


def test_a_part_is_measured_as_that_language_alone_is(place, tmp_path):
    run(place, tmp_path, every=None, data=MIXED, imp=None)
    folder = RunFolder(tmp_path)
    for language in ("en", "fr"):
        data = XNLI(language, place.base, place.data, max_length=32, seed=3)
        module = SubnetModule(data.task, place.base, seed=3)
        load_weights(str(folder.checkpoint), module)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        (alone,) = Trainer(accelerator="cpu", **quiet).validate(module, datamodule=data, verbose=False)
        (record,) = [r for r in folder.records("part") if r.target == language]
        assert alone == {"val_accuracy": record.value}


def test_the_log_tells_the_parts_apart(place, tmp_path):
    run(place, tmp_path, every=None, data=MIXED, imp=None)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    names = header.split(",")
    assert {"val_accuracy", "val_accuracy/en", "val_accuracy/fr"} <= set(names)
    for language in ("en", "fr"):
        assert sum(bool(row.split(",")[names.index(f"val_accuracy/{language}")]) for row in rows) == 1


def test_a_finished_run_that_lost_a_part_is_made_whole(place: Place, tmp_path: Path):
    first = run(place, tmp_path, every=None, data=MIXED, **IMP)
    path = RunFolder(tmp_path).results
    lines = path.read_text().splitlines(keepends=True)
    lost = [line for line in lines if json.loads(line)["target"] != "fr" or json.loads(line)["round"] != 1]
    path.write_text("".join(lost))
    again = run(place, tmp_path, every=None, data=MIXED, **IMP)
    assert sorted(again["results"], key=str) == sorted(first["results"], key=str)
    assert again["tickets"] == first["tickets"]
