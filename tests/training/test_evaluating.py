"""What is kept of each example: enough for the metric, whatever the task, and before it is recorded."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_tokenizer
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record
from lnsub.tasks.clm import CausalLM
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.udpos import UDPOS
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import WORDS, batches, pairs, write_rows
from tests.support.resuming import IMP, Place, run
from tests.support.waits import Waits

TASKS: list[type[LanguageDataModule]] = [XNLI, WikiANN, UDPOS, WikipediaMLM, CausalLM]
QUICK: dict[str, Any] = {"every": None, "max_epochs": 1}


def rows_of(task: type[LanguageDataModule], count: int) -> dict[str, list[Any]]:
    """Rows of a task's data, of which some are hard."""
    rng = np.random.default_rng(count)
    sentences = [[str(word) for word in rng.choice(WORDS, size=2 + i % 5)] for i in range(count)]
    if task is XNLI:
        return pairs(count)
    if task is WikiANN:
        return {"tokens": sentences, "ner_tags": [[int(rng.integers(0, 7)) for _ in words] for words in sentences]}
    if task is UDPOS:
        return {"tokens": sentences, "upos": [[int(rng.integers(0, 17)) for _ in words] for words in sentences]}
    return {"text": [" ".join(words) for words in sentences]}


def place_of(task: type[LanguageDataModule], folder: Path, base: str) -> Place:
    write_rows(folder / "fr" / "train.parquet", rows_of(task, 24))
    write_rows(folder / "fr" / "validation.parquet", rows_of(task, 21))
    return Place(base, str(folder))


def kept(folder: Path, record: Record) -> dict[str, np.ndarray]:
    with np.load(RunFolder(folder).examples(record)) as file:
        return dict(file)


def f1_of(sums: dict[str, float]) -> float:
    return 2 * sums["hits"] / (sums["predicted"] + sums["gold"])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_the_metrics_follow_from_what_is_kept_of_each_example(task, tmp_path, bert, decoder, cache):
    place = place_of(task, tmp_path / "data", decoder if task is CausalLM else bert)
    out = tmp_path / "run"
    run(place, out, imp=None, task=task, data={"language": "fr"}, **QUICK)
    found = {record.metric: record for record in RunFolder(out).records("dense")}
    columns = kept(out, found[task.task_class.metric])
    assert columns["index"].tolist() == list(range(len(columns["index"])))
    assert all(len(column) == len(columns["index"]) for column in columns.values())
    sums = {name: float(column.sum()) for name, column in columns.items()}
    if task is WikiANN:
        assert sums["gold"] > 20
        assert found["f1"].value == pytest.approx(f1_of(sums) if sums["hits"] else 0)
        assert {record.n for record in found.values()} == {21}
        return
    things = {XNLI: "pairs", UDPOS: "words"}.get(task, "tokens")
    assert found["accuracy"].value == pytest.approx(sums["correct"] / sums[things])
    assert {record.n for name, record in found.items() if name != "bits_per_byte"} == {sums[things]}
    if things == "tokens":
        assert sums[things] > len(columns["index"])  # not blocks
        assert found["perplexity"].value == pytest.approx(math.exp(sums["nats"] / sums["tokens"]), rel=1e-6)
    if task is CausalLM:
        assert found["bits_per_byte"].n == sums["bytes"]
        assert found["bits_per_byte"].value == pytest.approx(sums["nats"] / math.log(2) / sums["bytes"], rel=1e-6)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_an_examples_counts_are_those_of_its_own_predictions(task, tmp_path, bert, decoder, cache):
    place = place_of(task, tmp_path / "data", decoder if task is CausalLM else bert)
    data = task("fr", place.base, place.data, max_length=32)
    for batch in batches(data.val_dataloader()):
        labels = batch["labels"]
        generator = torch.Generator().manual_seed(int(labels.sum()) % 1000)
        classes = len(data.task.labels) or len(load_tokenizer(place.base))
        noise = torch.randn(*labels.shape, classes, generator=generator)
        logits = noise + 2 * F.one_hot(labels.clamp(min=0), classes)
        counts = data.task.counts(logits, batch)
        assert counts.shape == (len(batch["index"]), len(data.task.counted))
        for row, example in zip(counts.tolist(), data.task.decode(logits, batch), strict=True):
            told = dict(zip(data.task.counted, row, strict=True))
            if task is XNLI:
                assert told == {"correct": example["label"] == example["prediction"], "pairs": 1}
            elif task is not WikiANN:
                true, guessed = (example[k] for k in (("tags" if task is UDPOS else "tokens"), "predictions"))
                assert told["correct"] == sum(a == b for a, b in zip(true, guessed, strict=True))
                assert told["words" if task is UDPOS else "tokens"] == len(true)
        if "nats" in data.task.counted:
            nats = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
            assert counts[:, 1].sum().item() == pytest.approx(nats.item(), rel=1e-5)
        with Waits() as watching:
            data.task.counts(logits, batch)
        assert not watching.seen


def test_each_round_has_a_file_and_each_language_of_a_mixture_its_own(place, tmp_path):
    run(place, tmp_path, data={"language": "en+fr", "max_train_examples": 24}, **QUICK, **IMP)
    found = {path.name: path for path in (tmp_path / "examples").iterdir()}
    expected = {f"part-round{number}-{language}-validation.npz" for number in range(3) for language in ("en", "fr")}
    assert set(found) == expected
    for record in RunFolder(tmp_path).records("part"):
        columns = kept(tmp_path, record)
        assert record.value == columns["correct"].sum() / len(columns["index"])


def test_a_run_is_whole_without_the_files(place, tmp_path, caplog):
    first = run(place, tmp_path / "run", imp=None, **QUICK)
    shutil.rmtree(tmp_path / "run" / "examples")
    with caplog.at_level(logging.INFO):
        assert run(place, tmp_path / "run", imp=None, **QUICK)["results"] == first["results"]
    assert "already done" in caplog.text


def test_nothing_is_recorded_whose_examples_could_not_be_kept(place, tmp_path):
    whole = run(place, tmp_path / "whole", imp=None, **QUICK)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "examples").write_text("in the way")
    with pytest.raises(UserError, match="examples"):
        run(place, tmp_path / "run", imp=None, **QUICK)
    assert not RunFolder(tmp_path / "run").records("dense")
    (tmp_path / "run" / "examples").unlink()
    assert run(place, tmp_path / "run", imp=None, **QUICK)["results"] == whole["results"]
    (record,) = RunFolder(tmp_path / "run").records("dense")
    assert kept(tmp_path / "run", record)["correct"].sum() == record.value * record.n
