"""Where rows come from: local files, the Hub, and what is refused."""

import shutil
from pathlib import Path

import datasets
import pytest

from lnsub.common.errors import UserError
from lnsub.data.rows import HubRows, open_rows
from lnsub.tasks import data_modules
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import pairs, write_rows


def rows(table: datasets.Dataset) -> list[dict]:
    return table.with_format(None).to_list()


LABELS = ["entailment", "neutral", "contradiction"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("named", [True, False])
def test_a_file_of_any_type_gives_the_same_rows(data, bert, suffix, named):
    columns = pairs(9)
    columns["premise"][3:6] = ["null", "1984", 'a "red",\ncat']
    write_rows(data / "a" / "train.parquet", columns)
    labels = [LABELS[label] for label in columns["label"]] if named else columns["label"]
    write_rows(data / "b" / f"train{suffix}", {**columns, "label": labels})
    expected = rows(XNLI("a", bert, str(data)).table("train"))
    assert [row["index"] for row in expected] == list(range(9))
    assert rows(XNLI("b", bert, str(data)).table("train")) == expected


def test_named_classes_are_read_by_name_not_by_number(data, bert):
    text, label = datasets.Value("string"), datasets.ClassLabel(names=LABELS[::-1])
    features = datasets.Features({"premise": text, "hypothesis": text, "label": label})
    write_rows(data / "fr" / "train.parquet", pairs(6), features)
    assert XNLI("fr", bert, str(data)).table("train")["labels"][:] == [2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: shutil.rmtree(d), "There is no data folder '.*data'"),
        (lambda d: shutil.rmtree(d / "fr"), "has no language 'fr': it has zh"),
        (lambda d: (d / "fr" / "train.parquet").unlink(), "has no train split for 'fr': it has validation, test"),
        (lambda d: (d / "fr" / "train.parquet").write_bytes(b"nothing"), r"train\.parquet' cannot be read: "),
        (lambda d: write_rows(d / "fr" / "train.csv", pairs(3)), r"has both train\.parquet and train\.csv"),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {"premise": ["a"], "text": ["b"]}),
            r"train\.parquet' has no column hypothesis, label: it has premise, text",
        ),
        (
            lambda d: write_rows(
                d / "fr" / "train.parquet",
                {"premise": [], "hypothesis": [], "label": []},
                datasets.Features({c: datasets.Value("string") for c in ("premise", "hypothesis", "label")}),
            ),
            r"train\.parquet' has no rows",
        ),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {**pairs(3), "label": [0, 1, 3]}),
            r"train\.parquet', row 2 \(counting from 0\) has the label 3: it must be one of 0 entailment, 1 neutral",
        ),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {**pairs(2), "premise": ["a", None]}),
            r"train\.parquet', row 1 .*: the premise or the hypothesis is not a string",
        ),
    ],
)
def test_what_is_wrong_with_the_data_is_said_in_one_sentence(data, bert, break_it, message):
    break_it(data)
    with pytest.raises(UserError, match=message):
        XNLI("fr", bert, str(data)).table("train")


def test_a_wrong_row_of_a_subset_is_named_by_its_number_in_the_file(data, bert):
    labels = [7 if number == 25 else 0 for number in range(40)]
    write_rows(data / "fr" / "train.parquet", {**pairs(40), "label": labels})
    messages = set()
    for limit in range(5, 41, 5):
        try:
            XNLI("fr", bert, str(data), max_train_examples=limit).table("train")
        except UserError as error:
            messages.add(str(error).split(", ")[1].split(" has")[0])
    assert messages == {"row 25 (counting from 0)"}


@pytest.fixture
def hub(data: Path) -> str:
    """The data as a repository of the Hub is laid out: one configuration per language, named with a prefix."""
    lines = ["---", "configs:"]
    for language in ("fr", "zh"):
        lines += [f"- config_name: 2023.{language}", "  data_files:"]
        for split in ("train", "validation"):
            lines += [f"  - split: {split}", f"    path: {language}/{split}.parquet"]
    (data / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return str(data)


def test_a_hub_data_set_is_read_by_configuration(hub, cache):
    source = HubRows(hub, "zh", ["premise", "label"], prefix="2023.")
    assert source.splits() == ["train", "validation"]
    read = source.read("validation")
    assert read.column_names == ["premise", "label"]
    assert len(read) == 11
    again = HubRows(hub, "zh", ["premise", "label"], prefix="2023.")
    assert again.fingerprint("train") == source.fingerprint("train") != source.fingerprint("validation")
    assert HubRows(hub, "fr", ["premise"], prefix="2023.").fingerprint("train") != source.fingerprint("train")
    with pytest.raises(UserError, match="has no test split for 'zh': it has train, validation"):
        source.read("test")
    with pytest.raises(UserError, match=r"The train split of '.*' \(zh\) has no column text: it has premise"):
        HubRows(hub, "zh", ["text"], prefix="2023.").read("train")


def test_an_unknown_language_of_a_hub_data_set_names_those_there_are(hub, cache):
    with pytest.raises(UserError, match="has no language 'xx': it has fr, zh"):
        HubRows(hub, "xx", ["premise"], prefix="2023.").splits()


@pytest.mark.parametrize("module", data_modules().values())
def test_a_hub_that_cannot_be_reached_is_one_sentence(module, bert, cache):
    with pytest.raises(UserError, match="neither a folder here nor a data set that could be fetched"):
        module("fr", bert).table("train")


def test_words_are_read_from_conllu_as_from_the_hubs_columns(tmp_path):
    lines = [
        "# text = du café",
        "1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_",
        "1\tde\tde\tADP\tP\t_\t3\tcase\t_\t_",
        "2\tle\tle\tDET\t_\tDefinite=Def\t3\tdet\t_\t_",
        "2.1\tbon\tbon\tADJ\t_\t_\t_\t_\t_\t_",
        "3\tcafé\tcafé\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No",
        "",
        "# a comment alone",
        "",
        "1\toui\toui\t_\t_\t_\t0\troot\t_\t_",
    ]
    (tmp_path / "fr").mkdir()
    (tmp_path / "fr" / "train.conllu").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = open_rows(str(tmp_path), "fr", ["tokens", "upos"])
    assert source.splits() == ["train"]
    assert source.read("train").to_dict() == {
        "tokens": [["de", "le", "café"], ["oui"]],
        "upos": [["ADP", "DET", "NOUN"], ["_"]],
    }
    with pytest.raises(UserError, match="no column ner_tags: it has tokens, lemmas, upos, xpos"):
        open_rows(str(tmp_path), "fr", ["ner_tags"]).read("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ta\ta\tX\n\nwords alone\n", r"train\.conllu' cannot be read: sentence 1 \(counting from 0\)"),
        ("one\ta\ta\tX\n", r"sentence 0 .*'one'"),
        ("# a comment alone\n", "has no rows"),
        ("", "has no column tokens"),
    ],
)
def test_a_conllu_file_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "fr").mkdir()
    (tmp_path / "fr" / "train.conllu").write_text(text)
    with pytest.raises(UserError, match=message):
        open_rows(str(tmp_path), "fr", ["tokens"]).read("train")


def test_a_hub_configuration_may_end_in_more_than_the_language_and_dev_is_validation(data, cache):
    lines = ["---", "configs:"]
    for language in ("fr", "zh"):
        lines += [f"- config_name: {language}_gsd", "  data_files:"]
        lines += [f"  - {{split: {split}, path: fr/{file}.parquet}}" for split, file in (("dev", "validation"),)]
    (data / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    source = HubRows(str(data), "zh", ["premise"], suffix="_gsd")
    assert source.splits() == ["validation"]
    assert len(source.read("validation")) == 11
    with pytest.raises(UserError, match="has no language 'xx': it has fr, zh"):
        HubRows(str(data), "xx", ["premise"], suffix="_gsd").splits()
