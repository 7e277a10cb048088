"""What `lnsub demo` says, from numbers made up here, and its study; the demo itself runs in CI."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.demo.run import findings
from lnsub.study.file import read_study
from tests.support.records import RECORD

STUDY = Path(__file__).parents[2] / "lnsub" / "demo" / "study.yaml"


def rounds_of(*values: float) -> list:
    return [replace(RECORD, round=i, sparsity=i / 10, metric="f1", value=value) for i, value in enumerate(values)]


def test_the_findings_follow_from_the_numbers():
    rounds = {"en": rounds_of(0.8, 0.81, 0.785, 0.5), "fr": rounds_of(0.7, 0.6, 0.69, 0.3)}
    overlaps = {0.1: (0.9, 0.82), 0.2: (0.6, 0.67), 0.3: (0.55, 0.54)}
    en, fr, overlap = findings(rounds, overlaps)
    assert re.findall(r"\d\.\d+", en) == ["0.800", "0.02", "0.2", "0.500", "0.3"]
    assert re.findall(r"\d\.\d+", fr) == ["0.700", "0.02", "0.2", "0.300", "0.3"]
    assert "at 2 of 3" in overlap
    assert re.findall(r"\d\.\d+", overlap) == ["0.3", "0.550", "0.540"]


def test_its_study_has_the_embedded_model_and_data():
    study = read_study(STUDY)
    home = STUDY.parent
    assert Path(study.base_model).samefile(home / "model")
    assert Path(study.tasks["wikiann"].dataset).samefile(home / "data")


@pytest.mark.parametrize(("languages", "said"), [("en", "at least two"), ("en,tlh", "tlh"), ("", "at least two")])
def test_languages_that_it_cannot_compare_are_refused(languages, said, capsys, tmp_path):
    assert main(["demo", "--languages", languages, "--output", str(tmp_path / "demo")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
