"""Where splits are looked for, and what is refused by name."""

import os
from pathlib import Path

import datasets
import pytest

from lnsub.common.errors import UserError
from lnsub.data.layouts import splits_in
from lnsub.data.rows import open_rows
from tests.support.data_makers import write_rows


def texts(folder: Path, split: str) -> list[str]:
    return open_rows(str(folder), "fr", ["text"]).read(split)["text"][:]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv", ".json.gz", ".csv.gz"])
@pytest.mark.parametrize("place", ["fr", "fr/data"])
def test_shards_are_read_in_order(tmp_path, suffix, place):
    for number in (2, 0, 1):
        name = f"train-{number:05}-of-00003{suffix}"
        write_rows(tmp_path / place / name, {"text": [f"{number} a", f"{number} b"], "label": [0, 1]})
    write_rows(tmp_path / place / f"test-00000-of-00001{suffix}", {"text": ["t"], "label": [0]})
    assert open_rows(str(tmp_path), "fr", ["text"]).splits() == ["train", "test"]
    assert texts(tmp_path, "train") == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]
    assert texts(tmp_path, "test") == ["t"]


def test_shards_may_have_the_hash_of_earlier_releases_of_datasets(tmp_path):
    for number, mark in ((0, "a09b74b3ef9c3b56"), (1, "0123456789abcdef")):
        write_rows(tmp_path / "fr" / f"train-{number:05}-of-00002-{mark}.parquet", {"text": [str(number)]})
    assert texts(tmp_path, "train") == ["0", "1"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl.gz"])
def test_missing_shards_are_refused_by_name(tmp_path, suffix):
    write_rows(tmp_path / "fr" / f"train-00001-of-00003{suffix}", {"text": ["a"]})
    with pytest.raises(UserError, match=rf"lacks train-00000-of-00003{suffix}, train-00002-of-00003{suffix}: it has"):
        splits_in(tmp_path / "fr")
    write_rows(tmp_path / "fr" / f"train-00000-of-00003{suffix}", {"text": ["a"]})
    with pytest.raises(UserError, match=rf"fr' lacks train-00002-of-00003{suffix}: "):
        splits_in(tmp_path / "fr")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.jsonl", "train-00000-of-00001.parquet"], r"both train-00000-of-00001\.parquet and train\.jsonl: keep"),
        (["train.parquet", "data/train.parquet"], r"both train\.parquet and data/train\.parquet: keep one"),
        (["train-00000-of-00001.csv", "train-00000-of-00002.csv", "train-00001-of-00002.csv"], "both train-00000-of-0"),
        (["train-00000-of-00001.csv", "train-00000-of-00001-0123456789abcdef.csv"], "has both train-00000-of-00001-01"),
        (["train.json", "train.json.gz"], r"both train\.json and train\.json\.gz"),
        (["dev.csv", "dev.tsv"], r"both dev\.csv and dev\.tsv"),
        (["train.csv", "train/state.json"], r"both train\.csv and train/"),
    ],
)
def test_two_things_for_one_split_are_refused(tmp_path, names, message):
    for name in names:
        if name == "train/state.json":
            datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "fr" / "train")
        else:
            write_rows(tmp_path / "fr" / name, {"text": ["a"], "label": [0]})
    with pytest.raises(UserError, match=message):
        splits_in(tmp_path / "fr")


def test_dev_is_the_validation_split_where_there_is_no_other(tmp_path):
    write_rows(tmp_path / "fr" / "dev.jsonl", {"text": ["dev"]})
    assert texts(tmp_path, "validation") == ["dev"]
    write_rows(tmp_path / "fr" / "validation.jsonl", {"text": ["validation"]})
    assert texts(tmp_path, "validation") == ["validation"]
    assert open_rows(str(tmp_path), "fr", ["text"]).splits() == ["validation"]


def test_what_is_not_found_is_refused_with_the_names_looked_for(tmp_path):
    write_rows(tmp_path / "fr" / "training.jsonl", {"text": ["a"]})
    source = open_rows(str(tmp_path), "fr", ["text"])
    assert source.splits() == []
    with pytest.raises(UserError) as caught:
        source.read("train")
    message = str(caught.value)
    assert "has no train split for 'fr': it has no split at all. In" in message
    for name in ("train.parquet", "train-00000-of-00001.parquet", ".jsonl", ".json", ".tsv", ".gz", "state.json"):
        assert name in message
    with pytest.raises(UserError, match=r"validation\.parquet, .*dev\.parquet"):
        source.read("validation")
    with pytest.raises(UserError, match=r"no language 'zh': it has fr\. .* README\.md, named a_zh_b or zh\."):
        open_rows(str(tmp_path), "zh", ["text"], "a_", "_b")


def test_a_folder_may_be_named_like_the_configuration_of_the_hub(tmp_path):
    write_rows(tmp_path / "20231101.fr" / "train.jsonl", {"text": ["a"]})
    source = open_rows(str(tmp_path), "fr", ["text"], prefix="20231101.")
    assert source.read("train")["text"][:] == ["a"]
    write_rows(tmp_path / "fr" / "train.jsonl", {"text": ["b"]})
    assert open_rows(str(tmp_path), "fr", ["text"], prefix="20231101.").read("train")["text"][:] == ["b"]


def test_links_to_files_and_folders_are_followed(tmp_path):
    write_rows(tmp_path / "blobs" / "x.csv.gz", {"text": ["a"], "label": [0]})
    (tmp_path / "blobs" / "x.csv.gz").rename(tmp_path / "blobs" / "d41d8c")  # as the Hub's cache names them
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "train.csv.gz").symlink_to(tmp_path / "blobs" / "d41d8c")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fr").symlink_to(tmp_path / "there")
    assert texts(tmp_path / "data", "train") == ["a"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["train.parquet", "train-00000-of-00001.jsonl", "dev.csv.gz", "data/test.conllu"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, name):
    path = tmp_path / "fr" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(UserError, match=rf"{name}' cannot be read: it is a device, a FIFO or a socket, not a file\."):
        open_rows(str(tmp_path), "fr", ["text"])
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is a device"):
        open_rows(str(tmp_path), "fr", ["text"])
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match=rf"{name}' cannot be read: it is a link to what is not there\."):
        open_rows(str(tmp_path), "fr", ["text"])
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=rf"{name}' cannot be read: it is a folder, not a file\."):
        open_rows(str(tmp_path), "fr", ["text"])
