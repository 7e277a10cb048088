"""A split's identity is that of its content; saved data sets are read where they are, or refused."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from lnsub.common.errors import UserError
from lnsub.data.rows import RowSource, open_rows
from lnsub.data.splits import SplitFiles
from tests.support.data_makers import write_rows

CLASSES = datasets.ClassLabel(names=["no", "yes"])
FEATURES = datasets.Features({"text": datasets.Value("string"), "label": CLASSES})


def saved(count: int, name: str = "a") -> datasets.Dataset:
    columns = {"text": [f"{name}{i}" for i in range(count)], "label": [i % 2 for i in range(count)]}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def source(folder: Path) -> RowSource:
    return open_rows(str(folder), "fr", ["text", "label"])


def test_one_file_is_identified_by_its_checksum_and_several_by_all_of_theirs(tmp_path):
    paths = [tmp_path / f"train-{i:05}-of-00002.jsonl" for i in range(2)]
    for i, path in enumerate(paths):
        path.write_text(json.dumps({"text": str(i)}))
    one, other = SplitFiles((paths[0],)), SplitFiles((paths[1],))
    assert one.digest == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert len({one.digest, other.digest, SplitFiles(tuple(paths)).digest, SplitFiles(tuple(paths[::-1])).digest}) == 4


def test_a_copy_elsewhere_and_at_another_date_has_the_same_identity(tmp_path):
    datasets.DatasetDict({"train": saved(9)}).save_to_disk(tmp_path / "one" / "fr")
    for i in range(2):
        write_rows(tmp_path / "one" / "zh" / f"train-{i:05}-of-00002.csv", {"text": [i], "label": [i]})
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    for path in (tmp_path / "other").rglob("*"):
        os.utime(path, (1, 1))
    for language in ("fr", "zh"):
        one, other = (
            open_rows(str(tmp_path / name), language, ["text"]).fingerprint("train") for name in ("one", "other")
        )
        assert one == other


def test_a_tsv_is_not_taken_for_a_csv_of_the_same_content(tmp_path):
    for suffix in (".csv", ".tsv"):
        (tmp_path / f"train{suffix}").write_text('text\n"a"\n')
    csv, tsv = (SplitFiles((tmp_path / f"train{suffix}",)) for suffix in (".csv", ".tsv"))
    assert csv.read(["text"])["text"][:] == ["a"]
    assert tsv.read(["text"])["text"][:] == ['"a"']
    assert csv.digest != tsv.digest


def test_files_are_read_as_they_are_now(tmp_path, cache):
    path = tmp_path / "fr" / "train.jsonl"
    path.parent.mkdir()
    for text in ("first", "other"):
        path.write_text(json.dumps({"text": text, "label": 1}))
        os.utime(path, (1, 1))
        assert source(tmp_path).read("train")["text"][:] == [text]
    assert not cache.parent.exists()


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    write_rows(tmp_path / "a.parquet", {"text": ["a"], "label": [0]}, FEATURES)
    other = datasets.Features({**FEATURES, "label": datasets.ClassLabel(names=["yes", "no"])})
    write_rows(tmp_path / "b.parquet", {"text": ["a"], "label": [0]}, other)
    write_rows(tmp_path / "c.jsonl", {"text": ["a"], "label": ["yes"]})
    write_rows(tmp_path / "d.jsonl", {"text": ["a"], "label": [1]})
    write_rows(tmp_path / "e.jsonl", {"text": ["a"], "label": [None]})

    def read(*names: str) -> list:
        return SplitFiles(tuple(tmp_path / name for name in names)).read(["text", "label"])["label"][:]

    with pytest.raises(UserError, match=r"a\.parquet' to 'b\.parquet' do not fit together: their classes have other"):
        read("a.parquet", "b.parquet")
    with pytest.raises(UserError, match=r"c\.jsonl' to 'd\.jsonl' do not fit together: .*label"):
        read("c.jsonl", "d.jsonl")
    assert read("d.jsonl", "e.jsonl", "d.jsonl") == [1, None, 1]
    assert read("a.parquet", "a.parquet") == [0, 0]


def test_a_saved_data_set_gives_the_rows_that_were_saved(tmp_path, cache, capfd):
    whole = datasets.DatasetDict({"train": saved(50), "validation": saved(5, "v")})
    whole.save_to_disk(tmp_path / "all" / "fr", num_shards={"train": 3, "validation": 1})
    for split, rows in whole.items():
        rows.save_to_disk(tmp_path / "each" / "fr" / split)
    saved(5, "v").save_to_disk(tmp_path / "dev" / "fr" / "dev")
    capfd.readouterr()
    for layout in ("all", "each"):
        assert source(tmp_path / layout).splits() == ["train", "validation"]
        for split, rows in whole.items():
            read = source(tmp_path / layout).read(split)
            assert read.to_dict() == rows.to_dict()
            assert read.features == FEATURES
    assert source(tmp_path / "dev").read("validation").to_dict() == saved(5, "v").to_dict()
    assert capfd.readouterr().err == ""
    assert not cache.parent.exists()
    with pytest.raises(UserError, match=r"fr/train' has no column premise: it has text, label\."):
        open_rows(str(tmp_path / "all"), "fr", ["premise"]).read("train")


def test_the_format_and_the_unused_columns_of_a_saved_data_set_do_not_matter(tmp_path):
    rows = saved(3).add_column("meta", [{"a": 1}, None, {"a": 2}]).with_format("numpy", columns=["label"])
    rows.save_to_disk(tmp_path / "fr" / "train")
    assert source(tmp_path).read("train").to_dict() == saved(3).to_dict()


def test_the_identity_of_a_saved_data_set_changes_with_its_rows_and_its_classes(tmp_path):
    identities = []
    renamed = datasets.Features({**FEATURES, "label": datasets.ClassLabel(names=["yes", "no"])})
    for number, rows in enumerate((saved(3), saved(4), saved(3, "b"), saved(3).cast(renamed))):
        rows.save_to_disk(tmp_path / str(number) / "fr" / "train")
        identities.append(source(tmp_path / str(number)).fingerprint("train"))
    assert len(set(identities)) == 4


def test_a_split_that_a_saved_data_set_has_lost_is_named(tmp_path):
    datasets.DatasetDict({"train": saved(5), "test": saved(5)}).save_to_disk(tmp_path / "fr")
    shutil.rmtree(tmp_path / "fr" / "test")
    with pytest.raises(UserError, match=r"was saved with a split 'test', but '.*fr/test' is not there"):
        source(tmp_path)
    (tmp_path / "fr" / "dataset_dict.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_dict\.json' cannot be read: it does not list the splits"):
        source(tmp_path)


def arrow_file(folder: Path) -> Path:
    return folder / "data-00000-of-00001.arrow"


def state(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**content, **changes}))


def broken_text(folder: Path) -> None:
    path = arrow_file(folder)
    path.write_bytes(path.read_bytes().replace(b"a0a1a2", b"a0\xe91a2"))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: arrow_file(d).unlink(), r"arrow' cannot be read: No such file"),
        (lambda d: arrow_file(d).write_bytes(arrow_file(d).read_bytes()[:700]), r"fr/train' cannot be read: "),
        (lambda d: arrow_file(d).write_bytes(b""), r"fr/train' cannot be read: "),
        (lambda d: arrow_file(d).write_bytes(b"no arrow at all"), r"fr/train' cannot be read: "),
        (broken_text, r"fr/train' cannot be read: .*UTF8"),
        (lambda d: fifo(arrow_file(d)), r"arrow' cannot be read: it is a device, a FIFO"),
        (lambda d: fifo(d / "dataset_info.json"), r"dataset_info\.json' cannot be read: it is a device, a FIFO"),
        (lambda d: (d / "dataset_info.json").unlink(), r"dataset_info\.json' cannot be read: No such file"),
        (lambda d: (d / "dataset_info.json").write_text("[" * 100_000), r"fr/train' cannot be read: "),
        (lambda d: (d / "dataset_info.json").write_text('{"features": {"text": 5}}'), r"fr/train' cannot be read: "),
        (lambda d: (d / "state.json").write_text("{}"), r"state\.json' cannot be read: it does not list the files"),
        (lambda d: state(d, _data_files=[{"filename": "../../other.arrow"}]), "does not list the files"),
        (lambda d: state(d, _data_files=5), "does not list the files"),
        (lambda d: state(d, _data_files=[]), r"fr/train' cannot be read: "),
    ],
)
def test_a_saved_data_set_that_is_broken_is_said_in_one_line(tmp_path, break_it, message):
    folder = tmp_path / "fr" / "train"
    saved(50).save_to_disk(folder)
    break_it(folder)
    with pytest.raises(UserError, match=message) as caught:
        source(tmp_path).read("train")
    assert "\n" not in str(caught.value)


def test_a_column_of_a_type_that_datasets_does_not_know_is_refused(tmp_path):
    table = pa.table({"text": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "label": [0]})
    (tmp_path / "fr").mkdir()
    pa.parquet.write_table(table, tmp_path / "fr" / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet' cannot be read: .*map<"):
        source(tmp_path).read("train")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "columns"), [("xnli", ["premise", "hypothesis"]), ("mlm", ["text"]), ("ner", ["tokens"])]
)
@pytest.mark.parametrize("language", ["fr", "zh"])
def test_real_text_is_the_same_in_every_layout(shared, tmp_path, name, columns, language):
    rows = open_rows(str(shared / "data" / name), language, columns).read("validation")
    expected = rows.to_dict()
    rows.save_to_disk(tmp_path / "saved" / language / "validation")
    suffixes = [".jsonl.gz", ".json"] + ([".csv", ".csv.gz"] if name != "ner" else [])
    for suffix in suffixes:
        for number, piece in enumerate((rows.shard(2, 0, contiguous=True), rows.shard(2, 1, contiguous=True))):
            path = tmp_path / suffix[1:] / language / "data" / f"dev-{number:05}-of-00002{suffix}"
            write_rows(path, piece.to_dict())
    for layout in ("saved", *(suffix[1:] for suffix in suffixes)):
        assert open_rows(str(tmp_path / layout), language, columns).read("validation").to_dict() == expected
