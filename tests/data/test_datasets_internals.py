"""The undocumented names of ``datasets``: what is asked of them, so that a release that moves one is noticed."""

import datasets
import pytest

from lnsub.data.datasets_internals import described_features, files_of_configuration, fingerprint
from tests.support.data_makers import write_rows


def test_a_fingerprint_is_that_of_the_content_at_each_load(tmp_path, cache):
    for name in ("one", "other"):
        write_rows(tmp_path / name / "train.parquet", {"text": [name, "b"]})

    def loaded(name: str) -> str:
        return fingerprint(datasets.load_dataset(str(tmp_path / name))["train"])

    assert loaded("one") == loaded("one") != loaded("other")


@pytest.mark.parametrize(
    ("data_files", "data_dir", "expected"),
    [
        ("a/*", None, {"train": ["a/test.csv", "a/train-1.csv", "a/train-2.csv"]}),
        ({"train": ["a/train-2.csv", "a/train-1.csv"]}, None, {"train": ["a/train-2.csv", "a/train-1.csv"]}),
        ([{"split": "dev", "path": "a/te*"}], "a", {"dev": ["a/test.csv"]}),
        (None, "a", {"train": ["a/train-1.csv", "a/train-2.csv"], "test": ["a/test.csv"]}),
        ("a/no*", None, {"train": []}),
    ],
)
def test_the_files_of_a_configuration_are_found(tmp_path, data_files, data_dir, expected):
    root = tmp_path / "b [1]"
    for name in ("train-1.csv", "train-2.csv", "test.csv", "notes.md"):
        (root / "a").mkdir(parents=True, exist_ok=True)
        (root / "a" / name).write_text("text\n")
    found = files_of_configuration(root, data_files, data_dir, [".csv"])
    assert found == {split: [str(root / name) for name in names] for split, names in expected.items()}
    with pytest.raises(FileNotFoundError):
        files_of_configuration(root, "a/train-3.csv", None, [".csv"])


def test_the_types_that_a_readme_gives_are_found(tmp_path):
    assert described_features(tmp_path, "fr") is None
    types = "[{name: label, dtype: {class_label: {names: {'0': a, '1': b}}}}]"
    (tmp_path / "README.md").write_text(f"---\ndataset_info:\n- config_name: fr\n  features: {types}\n---\n")
    assert described_features(tmp_path, "fr") == {"label": datasets.ClassLabel(names=["a", "b"])}
    assert described_features(tmp_path, "zh") is None
