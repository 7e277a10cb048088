"""Labels: the same in every format, and what is none is refused."""

import datasets
import numpy as np
import pytest

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.tasks.labels import label_reader
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import LABELS, XNLI
from tests.support.data_makers import pairs, write_rows

TEXT = datasets.Value("string")


@pytest.mark.parametrize(
    ("label", "number"),
    [
        *((0, 0), (2, 2), (0.0, 0), (2.0, 2), ("0", 0), ("1", 1), ("2.0", 2), ("1.000", 1)),
        *((" 1 ", 1), ("\t1.0\n", 1), ("neutral", 1), (" contradiction ", 2)),
    ],
)
def test_a_label_is_a_number_or_a_name_in_any_writing(label, number):
    assert label_reader(LABELS, TEXT)(label, "row") == number


@pytest.mark.parametrize(
    "label",
    [
        *(True, False, None, "", " ", "0.5", 0.5, 3, "3", -1, "-1", -1.0, "-0", "+1", "1.", ".0", "1e0", "01", "1,0"),
        *("0x1", "\u0661", "true", "True", "nan", float("nan"), float("inf"), 1e300, 10**30, "Neutral", "neutral 1"),
        *([], [0], {"a": 1}, b"neutral", "None", "null"),
    ],
)
def test_what_is_no_label_is_refused(label):
    read = label_reader(LABELS, TEXT)
    assert [read(fine, "row") for fine in (0, 1, "1", 1.0)] == [0, 1, 1, 1]  # equal to some of those, and read before
    for _ in range(2):
        with pytest.raises(UserError, match=r"^a row has the label .*: it must be one of 0 entailment, 1 neutral, 2"):
            read(label, "a row")


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["0", "1", "2"], [0, 1, 2]),
        (["2", "0", "1"], [2, 0, 1]),
        (["1.0", " 0", "2"], [1, 0, 2]),
        (["neutral", "entailment", "contradiction"], [1, 0, 2]),
        (["contradiction", "1", "entailment"], [2, 1, 0]),
    ],
)
def test_classes_are_read_by_name_also_where_that_is_a_number(names, numbers):
    read = label_reader(LABELS, datasets.ClassLabel(names=names))
    assert [read(number, "row") for number in range(3)] == numbers
    for wrong in (-1, 3):
        with pytest.raises(UserError, match=f"has the label {wrong}: it must be one of 0 entailment"):
            read(wrong, "row")


def test_a_class_of_another_name_is_refused_with_its_name():
    read = label_reader(LABELS, datasets.ClassLabel(names=["entailment", "LABEL_1"]))
    assert read(0, "row") == 0
    with pytest.raises(UserError, match=r"has the label 1, which its file calls 'LABEL_1': it must be one of"):
        read(1, "row")


def test_a_label_of_any_length_is_refused_in_one_line():
    with pytest.raises(UserError) as caught:
        label_reader(LABELS, TEXT)("a long\nline " * 9999, "row")
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_what_stands_for_no_label_is_ignored():
    read = label_reader(("A", "B"), TEXT, ("_", None))
    assert [read(label, "row") for label in ("_", None, " _ ", "B", "0")] == [IGNORED, IGNORED, IGNORED, 1, 0]
    read = label_reader(("A", "B"), datasets.ClassLabel(names=["B", "_"]), ("_", None))
    assert [read(label, "row") for label in (0, 1, None)] == [1, IGNORED, IGNORED]


WRITINGS = {"fractions": [0.0, 1.0, 2.0], "numbers": [0, 1, 2], "text": ["0", "1.0", " 2 "], "names": list(LABELS)}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json.gz", ".csv", ".tsv"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_labels_are_read_alike_in_every_format(tmp_path, cache, bert, suffix, writing):
    write_rows(tmp_path / "fr" / f"train{suffix}", {**pairs(3), "label": WRITINGS[writing]})
    assert XNLI("fr", bert, str(tmp_path)).table("train")["labels"][:] == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json.gz", ".csv", ".tsv"])
@pytest.mark.parametrize("label", [True, 0.5])
def test_truth_values_and_fractions_are_refused_in_every_format(tmp_path, cache, bert, suffix, label):
    write_rows(tmp_path / "fr" / f"train{suffix}", {**pairs(3), "label": [label] * 3})
    write_rows(tmp_path / "zh" / f"train{suffix}", {"tokens": [["a"]] * 3, "ner_tags": [[label]] * 3})
    for module in (XNLI("fr", bert, str(tmp_path)), WikiANN("zh", bert, str(tmp_path))):
        with pytest.raises(UserError, match=rf"row 0 \(counting from 0\) has the label '?{label}'?: it must be one of"):
            module.table("train")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
@pytest.mark.parametrize(
    "tags", [[[0, 1], [2]], [[0.0, 1.0], [2.0]], [["0", "1.0"], ["2"]], [["O", "B-PER"], ["I-PER"]]]
)
def test_tags_are_read_alike_in_every_format(tmp_path, cache, bert, suffix, tags):
    write_rows(tmp_path / "fr" / f"train{suffix}", {"tokens": [["cat", "Ann"], ["Ann"]], "ner_tags": tags})
    rows = WikiANN("fr", bert, str(tmp_path)).table("train")["labels"][:]
    assert [[tag for tag in row if tag != IGNORED] for row in rows] == [[0, 1], [2]]


def test_classes_named_by_numbers_are_read_as_tags(tmp_path, cache, bert):
    tags = datasets.List(datasets.ClassLabel(names=["6", "5", "4", "3", "2", "1", "0"]))
    features = datasets.Features({"tokens": datasets.List(TEXT), "ner_tags": tags})
    write_rows(tmp_path / "fr" / "train.parquet", {"tokens": [["cat", "Ann"]], "ner_tags": [[6, 0]]}, features)
    rows = np.array(WikiANN("fr", bert, str(tmp_path)).table("train")["labels"][0])
    assert rows[rows != IGNORED].tolist() == [0, 6]
