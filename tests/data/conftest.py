"""What the tests of data share."""

from pathlib import Path

import pytest

from tests.support.data_makers import pairs, write_rows


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    """XNLI in two languages; only fr has a test split."""
    for language in ("fr", "zh"):
        for split, count in (("train", 40), ("validation", 11)):
            write_rows(tmp_path / "data" / language / f"{split}.parquet", pairs(count, language))
    write_rows(tmp_path / "data" / "fr" / "test.parquet", pairs(7))
    return tmp_path / "data"
