import pandas as pd
import pytest

from lnsub.analysis.mixtures import beats_parts, mixture_data
from lnsub.analysis.transfer_cells import relative_drop, transfer_cells

VALUES = {
    ("fr", "fr"): 0.80, ("ru", "ru"): 0.70, ("ur", "ur"): 0.60, ("zh", "zh"): 0.50,
    ("fr", "ur"): 0.55, ("fr", "zh"): 0.44, ("ru", "ur"): 0.54, ("ru", "zh"): 0.45,
    ("fr+ru", "fr"): 0.79, ("fr+ru", "ur"): 0.57, ("fr+ru", "zh"): 0.44, ("fr+ru", "fr+ru"): 0.75,
}  # fmt: skip


@pytest.fixture
def cells() -> pd.DataFrame:
    rows = [
        {"kind": "transfer", "task": "wikiann", "metric": "f1", "higher_is_better": True, "sparsity": 0.5, "seed": 1}
        | {"source": s, "target": t, "value": value, "ticket": s, "n": 10}
        for (s, t), value in VALUES.items()
    ]
    return transfer_cells(pd.DataFrame(rows))


def test_a_mixture_stands_beside_its_parts_on_other_languages(cells: pd.DataFrame) -> None:
    found = mixture_data(cells)
    assert set(found["target"]) == {"ur", "zh"}
    assert set(found["source"]) == {"fr", "ru", "fr+ru", "own"}
    assert beats_parts(found) == [True, False]
    assert mixture_data(cells[cells["source"] != "fr+ru"]).empty
    assert mixture_data(cells[~cells["source"].isin(["fr", "ru"])]).empty


def test_the_relative_drop_of_a_mixture_leaves_its_own_languages_out(cells: pd.DataFrame) -> None:
    drops = relative_drop(cells).set_index("source")
    row = drops.loc["fr+ru"]
    assert row["drop"] == pytest.approx(((0.57 - 0.60) / 0.60 + (0.44 - 0.50) / 0.50) / 2)
    assert (row["targets"], row["missing"]) == (2, "")
    # A single source is not held against a mixture as a target.
    assert (drops.loc["fr", "targets"], drops.loc["fr", "missing"]) == (2, "ru")
