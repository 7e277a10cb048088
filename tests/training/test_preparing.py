"""`lnsub prepare`: the receipt says what is there, counted anew here, and a language that fails stops no other."""

import json
from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.data.receipts import read_receipt, receipt_path
from lnsub.training.config import RunConfig
from lnsub.training.preparing import prepare
from tests.support.command import arguments, said


@pytest.fixture
def settings(bert: str, data: Path, tmp_path: Path) -> list[str]:
    """Settings of `lnsub fit` on tagged sentences in English and French."""
    return arguments(bert, data, tmp_path / "runs")[1:]


@pytest.mark.parametrize("language", ["fr", "en+fr"])
def test_a_receipt_counts_rows_and_tokens_and_names_the_tables(language, settings, tmp_path):
    config = RunConfig.parse(settings)
    path = prepare(config, language, tmp_path / "receipts")
    receipt = read_receipt(path)
    assert receipt is not None
    assert receipt.whole
    assert (receipt.task, receipt.language, receipt.fetched_only) == ("wikiann", language, False)
    module = config.data_module(language)
    for split in ("train", "validation", "test"):
        rows = module.table(split)
        assert receipt.rows[split] == len(rows)
        assert receipt.tokens[split] == sum(len(row["input_ids"]) for row in rows)
    assert receipt.files
    Path(receipt.files[0]).unlink()
    assert not receipt.whole
    # It is filled again by the same command.
    assert prepare(config, language, tmp_path / "receipts") == path
    assert receipt.whole


def test_only_fetching_counts_raw_rows_and_tokenises_nothing(settings, cache, tmp_path):
    path = prepare(RunConfig.parse(settings), "en+fr", tmp_path, fetch_only=True)
    receipt = read_receipt(path)
    assert receipt is not None
    assert receipt.fetched_only
    assert receipt.rows == {"train": 48, "validation": 16, "test": 16}
    assert (receipt.tokens, receipt.files) == ({}, [])
    assert not list(cache.rglob("*.arrow"))


def command(settings: list[str], languages: str, output: Path) -> list[str]:
    config, *others = settings
    return ["prepare", config, "--languages", languages, "--output", str(output), "--", *others]


def test_a_language_that_fails_stops_no_other(settings, data, tmp_path, capsys):
    broken = data / "fr" / "validation.jsonl"
    text = broken.read_text()
    broken.write_text(json.dumps({"tokens": ["a"], "ner_tags": ["B-NONE"]}) + "\n")
    assert main(command(settings, "fr,en", tmp_path / "out")) == 1
    err = capsys.readouterr().err
    assert [line for line in err.splitlines() if line.startswith("lnsub: fr: ")]
    assert "1 of 2 languages failed" in err
    assert read_receipt(receipt_path(tmp_path / "out", "wikiann", "en")) is not None
    assert read_receipt(receipt_path(tmp_path / "out", "wikiann", "fr")) is None
    broken.write_text(text)
    assert main(command(settings, "fr,en", tmp_path / "out")) == 0
    assert read_receipt(receipt_path(tmp_path / "out", "wikiann", "fr")) is not None


@pytest.mark.parametrize(("languages", "fact"), [("", "--languages"), ("dd", "dd"), ("../en", "../en")])
def test_bad_languages_are_refused(languages, fact, settings, tmp_path, capsys):
    assert fact in said(capsys, command(settings, languages, tmp_path / "out"))
