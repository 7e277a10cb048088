"""The tables in docs/scaling.md follow from the models' sizes and the measured rates."""

import math
from pathlib import Path

import pytest

from benchmarks.scaling import MODELS, Size, rates_in, report, tables

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_tables_in_the_docs_follow_from_the_rates_in_them():
    assert tables(rates_in(PAGE)) in PAGE


@pytest.mark.parametrize(("name", "published"), [("base", 0.27), ("large", 0.55), ("XL", 3.5), ("XXL", 10.7)])
def test_sizes_are_those_of_the_papers(name, published):
    config = MODELS[f"XLM-R {name}"]
    size = Size.of(config)
    assert size.parameters / 1e9 == pytest.approx(published, rel=0.03)
    assert (
        size.prunable == config.num_hidden_layers * 12 * config.hidden_size**2
    )  # 4 of attention, 2 of 4 times the width
    assert size.ticket == math.ceil(size.prunable / 8)
    assert size.outside + config.num_hidden_layers * size.block == size.parameters


def test_a_rank_of_many_holds_a_small_share():
    size = Size.of(MODELS["XLM-R base"])
    assert size.on_a_rank(1) == 16 * size.parameters + 3 * size.prunable
    gathered = 2 * (size.outside + 2 * size.block) + 6 * size.outside
    assert size.on_a_rank(10**9) == pytest.approx(gathered, rel=1e-6)


@pytest.mark.slow
def test_two_processes_measure_and_report():
    text = report(layers=1, repeats=1)
    assert "7,077,888 weights" in text
    assert tables(rates_in(text)) in text
