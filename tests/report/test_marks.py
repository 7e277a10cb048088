"""Marks of heat maps and the table of the mixed model, on a tree of records alone."""

import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnsub.analysis.many_comparisons import cells_beyond_effects
from lnsub.analysis.mixed_model import Fit, mixed_model
from lnsub.report import Made, report
from lnsub.runs.records import append
from tests.support.report_page import panels, rows, section, words
from tests.support.report_tree import record

LANGUAGES = ("ar", "en", "fr", "ru", "ur", "zh")
OFF = ("ur", "ar")
"""The pair that is better than its source and target."""


def value(rng: np.random.Generator, source: str | None, target: str) -> float:
    level = 0.6 + 0.02 * LANGUAGES.index(target) + 0.01 * rng.standard_normal()
    if source is None:
        return float(level - 0.05)
    return float(level + 0.01 * LANGUAGES.index(source) + 0.03 * (source == target) + 0.1 * ((source, target) == OFF))


def write(root: Path, languages: tuple[str, ...], seeds: int) -> pd.DataFrame:
    """Every ticket and the inherited mask on every language; the same as a table."""
    rng, found = np.random.default_rng(0), []
    for seed, target in product(range(seeds), languages):
        for source in (*languages, None):
            facts = {"seed": seed, "ticket": (source or "none").ljust(64, "a"), "source_task": "wikiann"}
            if source is None:
                facts |= {"score": "magnitude_init", "source_task": "inherited"}
            found.append(record("transfer", "wikiann", source, target, value(rng, source, target), **facts))
    append(root / "results.jsonl", found)
    return pd.DataFrame([vars(row) for row in found])


def made_of(folder: Path, languages: tuple[str, ...], seeds: int) -> tuple[Made, pd.DataFrame]:
    table = write(folder / "runs", languages, seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return report(folder / "runs", folder / "report.html"), table


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, pd.DataFrame]:
    return made_of(tmp_path_factory.mktemp("several"), LANGUAGES, 3)


def test_the_pair_that_stands_out_has_a_dot_on_both_sides_and_its_q_in_the_table(
    several: tuple[Made, pd.DataFrame],
) -> None:
    made, table = several
    tickets = table[table["source"].notna()]
    tested = cells_beyond_effects(tickets[["source", "target", "seed", "value"]].itertuples(index=False, name=None))
    assert tested.marked == {OFF}
    for panel in panels(made, "transfer").values():
        assert [(row["row"], row["column"]) for row in rows(made, panel) if row.get("marked")] == [OFF]
    cells = made.tables["transfer"].set_index(["source", "target"])
    assert cells["p"].dropna().to_dict() == pytest.approx(tested.p)
    assert cells["q"].dropna().to_dict() == pytest.approx(tested.q)
    assert "A dot marks a cell that effects of source and target do not explain" in words(section(made, "transfer"))


def test_the_table_of_kinds_is_the_mixed_model(several: tuple[Made, pd.DataFrame]) -> None:
    made, table = several
    fits = [
        Fit(
            "inherited" if row.source is None else "own" if row.source == row.target else "others",
            row.source or "",
            "",
            row.target,
            row.seed,
            row.value,
        )
        for row in table.replace({np.nan: None}).itertuples()
    ]
    model = mixed_model(fits)
    shown = made.tables["ticket_kinds"].set_index("kind")
    for row in model.effects:
        for column in ("effect", "error", "low", "high", "fits"):
            assert shown.loc[row["kind"], column] == pytest.approx(row[column], rel=1e-3)
    shares = made.tables["variance_shares"].iloc[0]
    assert shares[list(model.shares or {})].to_dict() == pytest.approx(model.shares, abs=1e-3)
    said = words(section(made, "ticket_kinds"))
    assert "inherited mask" in said
    assert "by source and target" in said


@pytest.mark.parametrize(
    ("languages", "seeds", "marks", "kinds"),
    [
        (LANGUAGES, 1, "No cell can be marked: with one seed of 6 languages no q can be less than 1", ""),
        (
            LANGUAGES[:2],
            3,
            "No cell can be marked: it takes 5 languages, and there are 2",
            "own tickets of 3 languages",
        ),
    ],
)
def test_what_too_few_seeds_or_languages_cannot_tell_is_said_in_a_sentence(
    tmp_path: Path, languages: tuple[str, ...], seeds: int, marks: str, kinds: str
) -> None:
    made, _ = made_of(tmp_path, languages, seeds)
    assert marks in words(section(made, "transfer"))
    missing = words(section(made, "left-out"))
    assert ("mixed model: not drawn" in missing) == bool(kinds)
    assert kinds in missing
