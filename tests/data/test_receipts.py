"""Receipts of prepared data: read as they were written, and nothing else is taken for one."""

import json

import pytest

from lnsub.common.errors import UserError
from lnsub.data.receipts import Receipt, read_receipt, receipt_path

RECEIPT = Receipt("xnli", "fr", "m", "d", False, {"train": 3}, {"train": 40}, [])


def test_a_receipt_is_read_as_it_was_written(tmp_path):
    path = receipt_path(tmp_path / "deep", "xnli", "fr")
    RECEIPT.write(path)
    assert read_receipt(path) == RECEIPT
    RECEIPT.write(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_another_file_is_no_receipt_and_is_not_overwritten(tmp_path):
    path = receipt_path(tmp_path, "xnli", "fr")
    assert read_receipt(path) is None
    for text in ("", "{}", "[1]", json.dumps({"format": "lnsub-receipt/1"}), json.dumps({"format": "other"}), "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert read_receipt(path) is None
    path.write_text("my notes")
    with pytest.raises(UserError, match="a receipt"):
        RECEIPT.write(path)
    assert path.read_text() == "my notes"


def test_only_a_mixtures_receipt_is_of_a_seed_and_what_was_fetched_is_of_none(tmp_path):
    of = [receipt_path(tmp_path, "xnli", language, seed) for language in ("fr", "fr+ur") for seed in (None, 1, 2)]
    assert len(set(of)) == 4
    fetched = {receipt_path(tmp_path, "xnli", "fr+ur", seed, fetched=True) for seed in (None, 1, 2)}
    assert len(fetched) == 1
    assert not fetched & set(of)
