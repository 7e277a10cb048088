"""The private names of ``datasets``: what is asked of them, so that a release that moves one is noticed."""

import datasets

from lnsub.data.datasets_internals import fingerprint
from tests.support.data_makers import write_rows


def test_a_fingerprint_is_that_of_the_content_at_each_load(tmp_path, cache):
    for name in ("one", "other"):
        write_rows(tmp_path / name / "train.parquet", {"text": [name, "b"]})

    def loaded(name: str) -> str:
        return fingerprint(datasets.load_dataset(str(tmp_path / name))["train"])

    assert loaded("one") == loaded("one") != loaded("other")
