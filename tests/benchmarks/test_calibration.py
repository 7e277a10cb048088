"""What the docs say of tickets without training follows from the rates in them."""

from pathlib import Path

import pytest

from benchmarks import calibration
from benchmarks.calibration import CALCULATED, Size, calculated, rates_in, report

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_table_in_the_docs_follows_from_the_rates_in_them():
    part = PAGE.split("<!-- calibration -->")[1].split("<!-- end calibration -->")[0]
    assert calculated(rates_in(part)) in part


@pytest.mark.parametrize(("name", "published"), [("Llama 2 7B", 6.74), ("Llama 2 13B", 13.02)])
def test_sizes_are_those_of_the_papers(name, published):
    size, config = Size.of(CALCULATED[name]), CALCULATED[name]
    assert size.parameters / 1e9 == pytest.approx(published, rel=0.01)
    assert size.prunable == config.num_hidden_layers * (
        4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    )
    assert size.memory(by_layer=True) < size.memory(by_layer=False) / 20


def test_a_toy_size_is_measured_and_reported(monkeypatch):
    monkeypatch.setattr(calibration, "in_own_process", lambda function, *args: function(*args))
    text = report((calibration._config(64, 2, 128, 2),), 2, 1)
    assert calculated(rates_in(text)) in text
