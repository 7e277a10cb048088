"""The page of the study file: its tables are the settings, with their defaults, and its examples are study files."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lnsub.study.file import read_study
from lnsub.study.job import KINDS
from lnsub.study.settings import (
    ConditionStudy,
    PrimaryEndpoint,
    ReportStudy,
    RetrievalStudy,
    SentenceStudy,
    SimilarityStudy,
    Slurm,
    Study,
    TaskStudy,
    TicketChoice,
    TransferStudy,
)
from lnsub.study.states import NAMES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "study-file.md").read_text(encoding="utf-8")
OWN = {setting.name for setting in fields(SentenceStudy)}
TABLES: dict[str, list[Field[Any]]] = {
    "### The study": [*fields(Study)],
    "### `tasks.<task>`": [*fields(TaskStudy)],
    "### An item of `tasks.<task>.conditions`": [*fields(ConditionStudy)],
    "### `transfer`": [*fields(TransferStudy)],
    "### `retrieval` and `similarity`": [*fields(SentenceStudy)],
    "`retrieval` also:": [setting for setting in fields(RetrievalStudy) if setting.name not in OWN],
    "`similarity` also:": [setting for setting in fields(SimilarityStudy) if setting.name not in OWN],
    "### `retrieval.tickets` and `similarity.tickets`": [*fields(TicketChoice)],
    "### `primary`": [*fields(PrimaryEndpoint)],
    "### `report`": [*fields(ReportStudy)],
    "### `slurm`": [*fields(Slurm)],
}
"""What stands before a table, and what is in it."""


def rows_after(words: str) -> list[tuple[str, str]]:
    """The first two columns of the first table after some words on a line of their own, without its heading."""
    _, _, rest = PAGE.partition(f"\n{words}\n")
    table = re.search(r"(?:^\|.*\n?)+", rest, re.M)
    assert table, words
    cells = [re.split(r" *\| *", line.strip("| ")) for line in table[0].splitlines()[2:]]
    return [(row[0].strip("`"), row[1].strip("`")) for row in cells]


def default_of(setting: Field[Any]) -> str:
    """A setting's default as a study file writes it."""
    value = setting.default_factory() if setting.default_factory is not MISSING else setting.default
    if value is MISSING:
        return "required"
    if is_dataclass(value):
        return "see below"
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


@pytest.mark.parametrize("words", TABLES)
def test_a_table_has_every_setting_with_its_default(words):
    assert rows_after(words) == [(setting.name, default_of(setting)) for setting in TABLES[words]]


@pytest.mark.parametrize("page", ["study-file.md", "cluster.md"])
def test_an_example_is_a_study_file(page, tmp_path):
    example, *_ = re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    rest = {"name": "a", "tasks": {"mlm": {"config": "mlm.yaml", "languages": ["fr"]}}}  # where it is a section alone
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(rest | yaml.safe_load(example)), encoding="utf-8")
    assert read_study(tmp_path / "study.yaml").slurm.partition == "gpu"


def test_every_kind_of_job_and_every_state_is_explained():
    assert [name for name, _ in rows_after("## Its jobs")] == list(KINDS)
    states = re.findall(r"\w+", " ".join(name for name, _ in rows_after("## Plan, run, status")))
    assert sorted(states) == sorted(NAMES)
