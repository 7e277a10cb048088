import csv
import io

import pytest

from lnsub.common.tables import csv_cell, to_csv, to_json, to_table


@pytest.mark.parametrize("text", ["=1+1", '=cmd|"/c calc"!A0', "+1+1", "-1+1", "@SUM(A1)", "=", "-", "+x"])
def test_no_cell_of_text_is_a_formula(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([{"a": text}])))
    assert row["a"] == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, -3, "-0.5", "+1e-3", "-inf", "fr", "a=b", "", None, True])
def test_numbers_and_other_text_stay_as_they_are(value: object) -> None:
    assert csv_cell(value) is value or csv_cell(value) == value


def test_no_table_carries_control_characters() -> None:
    rows = [{"model": "\x1b]0;owned\x07\x1b[2J\u202e", "value": 0.5}]
    for text in (to_table(rows), to_csv(rows), to_json(rows)):
        assert not [character for character in text if character != "\n" and not character.isprintable()]
        assert "owned" in text
