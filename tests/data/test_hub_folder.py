"""Folders downloaded from the Hub: README.md says which files are read, they are read as they are, and nothing runs."""

import os
import shutil
from pathlib import Path

import datasets
import pytest

from lnsub.common.errors import UserError
from lnsub.data.rows import HubRows, open_rows
from tests.support.data_makers import pairs, write_rows

COLUMNS = ["premise", "label"]


def readme(folder: Path, header: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "README.md").write_text(f"---\n{header.strip()}\n---\n# A data set\n", encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path, cache: Path) -> Path:
    """Two languages in shards, with a prefix and a suffix in their configurations' names."""
    folder = tmp_path / "hub"
    lines = ["license: mit", "configs:"]
    for language in ("fr", "zh"):
        lines += [f"- config_name: v1.{language}_x", "  data_files:"]
        for split, count in (("train", 2), ("dev", 1)):
            lines += [f"  - split: {split}", f"    path: files/{language}/{split}-*"]
            for number in range(count):
                path = folder / "files" / language / f"{split}-{number:05}-of-{count:05}.parquet"
                write_rows(path, pairs(3 + number, language))
    readme(folder, "\n".join(lines))
    return folder


def rows(folder: Path, language: str = "fr", prefix: str = "v1.", suffix: str = "_x") -> HubRows:
    return open_rows(str(folder), language, COLUMNS, prefix, suffix)


def test_a_configuration_gives_the_rows_that_datasets_gives(hub, capfd):
    for language in ("fr", "zh"):
        source = rows(hub, language)
        assert source.splits() == ["train", "validation"]
        expected = datasets.load_dataset(str(hub), f"v1.{language}_x")
        for split, name in (("train", "train"), ("validation", "dev")):
            assert source.read(split).to_dict() == expected[name].select_columns(COLUMNS).to_dict()
    assert len(rows(hub).read("train")) == 7
    assert rows(hub).where("train").endswith("fr/train-00000-of-00002.parquet' to 'train-00001-of-00002.parquet'")


def test_nothing_comes_from_or_goes_to_a_cache(hub, cache, capfd):
    path = hub / "files" / "fr" / "dev-00000-of-00001.parquet"
    for count in (5, 6):
        write_rows(path, pairs(count))
        os.utime(path, (1, 1))
        assert len(rows(hub).read("validation")) == count
    assert not cache.parent.exists()
    assert capfd.readouterr().err == ""


def test_the_identity_is_that_of_the_files_content(hub, tmp_path):
    shutil.copytree(hub, tmp_path / "other")
    one, other = rows(hub).fingerprint("train"), rows(tmp_path / "other").fingerprint("train")
    assert one == other != rows(hub, "zh").fingerprint("train")


def test_one_language_may_be_downloaded_alone_to_a_folder_of_any_name(hub):
    shutil.rmtree(hub / "files" / "fr")
    hub = hub.rename(hub.with_name("a [1] *"))
    assert len(rows(hub, "zh").read("train")) == 7


def test_the_usual_names_are_found_where_a_configuration_names_none(tmp_path):
    write_rows(tmp_path / "some" / "where" / "train-00000-of-00001.jsonl", pairs(3))
    write_rows(tmp_path / "some" / "where" / "test.jsonl", pairs(2))
    readme(tmp_path, "configs:\n- config_name: fr\n  data_dir: some/where")
    assert rows(tmp_path).splits() == ["train", "test"]
    assert rows(tmp_path).read("test").to_dict() == {"premise": pairs(2)["premise"], "label": [0, 1]}


def test_a_readme_without_configurations_is_no_matter(tmp_path):
    write_rows(tmp_path / "fr" / "train.jsonl", pairs(3))
    for text in ("", "# A data set", "---\nlicense: mit\n---\n", "---\na rule\n---\n", "---\nconfigs: 5\n---\n"):
        (tmp_path / "README.md").write_text(text)
        assert len(rows(tmp_path).read("train")) == 3
    readme(tmp_path, "configs:\n- config_name: zh\n  data_files: zh.jsonl")
    assert len(rows(tmp_path).read("train")) == 3
    with pytest.raises(UserError, match=r"no language 'ar': it has fr, zh\. Looked for .* named v1\.ar_x or ar\."):
        rows(tmp_path, "ar")


def test_the_language_alone_may_be_the_configurations_name_and_files_may_be_of_any_kind(tmp_path):
    write_rows(tmp_path / "data" / "all.jsonl.gz", {"premise": ["2024-01-01"], "label": [0], "meta": [{"a": 1}]})
    readme(tmp_path, "configs:\n- config_name: fr\n  data_files: data/*.jsonl.gz")
    assert rows(tmp_path).read("train").to_dict() == {"premise": ["2024-01-01"], "label": [0]}


def test_the_classes_and_the_separator_of_the_description_are_heeded(tmp_path):
    (tmp_path / "fr.csv").write_text("premise\tlabel\na\t0\nb\t1\nc\tno\n")
    write_rows(tmp_path / "zh.jsonl", {"premise": ["a"], "label": [1]})
    write_rows(tmp_path / "ar.jsonl", {"premise": ["a"], "label": [True]})
    types = "{name: label, dtype: {class_label: {names: {'0': yes, '1': no}}}}"
    header = 'configs:\n- {config_name: fr, sep: "\\t", data_files: fr.csv}\n'
    header += "".join(f"- {{config_name: {name}, data_files: {name}.jsonl}}\n" for name in ("zh", "ar"))
    header += "dataset_info:\n"
    for name in ("fr", "zh", "ar"):
        header += f"- {{config_name: {name}, features: [{{name: premise, dtype: string}}, {types}]}}\n"
    readme(tmp_path, header.replace("yes", "'yes'").replace("no}", "'no'}"))
    for language, labels in (("fr", [0, 1, 1]), ("zh", [1])):
        read = rows(tmp_path, language).read("train")
        assert read.features["label"] == datasets.ClassLabel(names=["yes", "no"])
        assert read["label"][:] == labels
    assert rows(tmp_path, "ar").read("train")["label"][:] == [True]
    named = rows(tmp_path, "zh").fingerprint("train")
    readme(tmp_path, header.replace("yes", "'maybe'").replace("no}", "'no'}"))
    assert rows(tmp_path, "zh").fingerprint("train") != named


def test_no_code_of_a_folder_runs(hub, tmp_path):
    script = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    for name in ("hub.py", "fr.py", "dataset.py", "__init__.py"):
        (hub / name).write_text(script)
    assert len(rows(hub).read("train")) == 7
    with pytest.raises(UserError, match="neither a folder here nor"):
        HubRows(str(hub), "fr", COLUMNS, "v1.", "_x").splits()
    assert not (tmp_path / "ran").exists()
    # and datasets itself, which is asked for data sets on the Hub, has run none since its version 4
    assert int(datasets.__version__.split(".")[0]) >= 4


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "files/fr/train-00001-of-00002.parquet").unlink(), r"fr' lacks train-00001-of-00002\.parquet"),
        (
            lambda d: shutil.rmtree(d / "files" / "fr"),
            r"'v1\.fr_x' in '.*README\.md' names files of the train split of which none",
        ),
        (lambda d: readme(d, "configs: [" * 50), r"README\.md' cannot be read: it is not YAML|nested"),
        (lambda d: readme(d, "a: &a [x, x]\nb: &b [*a, *a]\n" + alias_bomb()), r"README\.md' cannot be read: .*alias"),
        (lambda d: (d / "README.md").write_bytes(b"---\nlicense: \xe9\n---\n"), r"cannot be read: it is not UTF-8"),
        (
            lambda d: config(d, "data_files: https://example.org/x.csv"),
            r"'https://example\.org/x\.csv', which is not in",
        ),
        (lambda d: config(d, "data_files: {train: [hf://datasets/x/y.csv]}"), "names 'hf://.*', which is not in the"),
        (lambda d: config(d, "data_files: ../outside.csv"), "names '.*', which is not in the folder"),
        (
            lambda d: config(d, "data_files: /etc/hostname"),
            "names '/etc/hostname', which is not in the folder|/etc/hostname",
        ),
        (lambda d: config(d, f"data_files: {d.parent / 'outside.csv'}"), "names '/.*', which is not in the folder"),
        (lambda d: config(d, "data_files: missing.csv"), "cannot be used: Unable to find '.*missing.csv'"),
        (lambda d: config(d, "data_files: files/*/train-*\n  skiprows: 3"), "sets skiprows, which is not supported"),
        (lambda d: config(d, "data_files: 5"), "cannot be used"),
        (lambda d: config(d, "data_files: [{split: train}]"), "cannot be used"),
        (lambda d: os.mkfifo(d / "dataset_infos.json"), r"dataset_infos\.json' cannot be read: it is a device, a FIFO"),
        (lambda d: fifo(d / "files/fr/train-00000-of-00002.parquet"), r"parquet"),
        (
            lambda d: (d / "files/fr/train-00000-of-00002.parquet").write_bytes(b"PAR1"),
            r"train-00000-of-00002\.parquet' cannot be read: ",
        ),
    ],
)
@pytest.mark.timeout(30)
def test_what_is_wrong_with_a_downloaded_folder_is_said_in_one_line(hub, break_it, message):
    (hub.parent / "outside.csv").write_text("premise,label\na,0\n")
    break_it(hub)
    with pytest.raises(UserError, match=message) as caught:
        rows(hub).read("train")
    assert "\n" not in str(caught.value)


def config(folder: Path, lines: str) -> None:
    readme(folder, f"configs:\n- config_name: v1.fr_x\n  {lines}")


def alias_bomb() -> str:
    return "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("bcdefghij", "cdefghijk", strict=True))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_a_fifo_in_the_place_of_the_readme_is_none(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    write_rows(tmp_path / "fr" / "train.jsonl", pairs(3))
    assert len(rows(tmp_path).read("train")) == 3


def test_the_cause_of_what_datasets_cannot_generate_is_told(hub):
    path = hub / "files/fr/train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with pytest.raises(UserError, match=r"hub' \(fr\) cannot be read: .*Parquet magic bytes not found in footer"):
        HubRows(str(hub), "fr", COLUMNS, "v1.", "_x").read("train")
