"""What a training step asks of a GPU, counted on one that does nothing: `make gpu-counts` runs this."""

import sys
from typing import Any

import pytest

from benchmarks.gpu_counts import CAPTURED, COMPILED, EAGER, HERE, Checkout, Variant, count
from benchmarks.gpu_counts.launch import REAL, build, why_not

LAYERS = 2
NOW = Checkout("", HERE)
MOST = {"eager": 240, "compile: default": 185, "step: captured": 8}
"""Kernels that a step of two layers may launch one by one."""


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    if reason := why_not(sys.executable):
        pytest.skip(reason)


@pytest.fixture(scope="module", params=[EAGER, CAPTURED, pytest.param(COMPILED, marks=pytest.mark.slow)], ids=str)
def counted(request) -> tuple[Variant, dict[str, Any]]:
    """A variant, and what a step of it in a whole fit asks for."""
    if not NOW.knows(request.param):
        pytest.skip("lnsub does not have it")
    settings = {"layers": LAYERS, "width": 64, "module": request.param.module}
    return request.param, count(sys.executable, "fit", NOW, **settings)


@pytest.mark.gpu_counts
def test_a_step_waits_for_nothing_and_copies_nothing_to_the_host(counted):
    _, found = counted
    assert found["waits"] == 0
    assert found["to host"] == 0
    assert found["from pageable"] == 0
    assert found["to device"] == 6  # the batch's tensors


@pytest.mark.gpu_counts
def test_a_step_launches_no_more_than_it_did(counted):
    variant, found = counted
    assert found["kernels"] <= MOST[variant.name]
    assert found["broken captures"] == 0
    if variant == CAPTURED:
        assert found["graphs"] == 1
        assert found["products"] == 0
        assert found["in graphs"] > 100 * LAYERS
        assert found["host ms"] < 1
    else:
        assert found["products"] == 18 * LAYERS + 6
        assert found["graphs"] == 0


@pytest.mark.gpu_counts
def test_batches_made_ahead_cost_the_training_thread_little():
    ahead, processes = (count(sys.executable, "loader", NOW, num_workers=workers) for workers in (0, 2))
    assert ahead["thread ms"] < 0.3
    assert ahead["process ms"] < processes["process ms"]


@pytest.mark.gpu_counts
def test_it_is_not_built_where_a_gpu_is(monkeypatch, tmp_path):
    monkeypatch.setattr("benchmarks.gpu_counts.launch.REAL", (*REAL, tmp_path))
    with pytest.raises(RuntimeError, match="a real GPU"):
        build(sys.executable)
