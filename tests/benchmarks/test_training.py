"""The benchmarks of training: the ways that are timed train the same thing, and loops take turns. No times."""

from collections.abc import Callable
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch

from benchmarks import masking, recipe, recipes
from benchmarks.turns import Loop, Steps
from lnsub.models.prunable import prunable
from tests.support.counting_loop import counting


@pytest.fixture(autouse=True)
def restore_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark sets the datasets cache of its process."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)


class Counted(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.started = self.steps = 0

    def begin(self) -> None:
        self.started += 1

    def done(self) -> None:
        self.steps += 1


@pytest.mark.parametrize("task", ["xnli", "wikiann"])
def test_all_ways_in_fp32_make_the_same_step_on_the_same_rows(task, tmp_path):
    """One batch holds all rows, so that order and grouping make no difference; the model has no dropout."""
    spec = next(spec for spec in recipe.quick_sources(tmp_path) if spec.task == task)
    rows = recipe.typical_rows(spec.datamodule().table("train").data.column("length").to_numpy(), 8, 2)
    spec = replace(recipe.sampled(spec, rows), batch=16, epochs=3, learning_rate=1e-3)
    trained = {}
    for way in (*recipe.ways(), *recipe.WHOLE.values()):
        if "bf16" not in way.name:
            steps = Counted()
            trained[way.name] = way.train(spec, *way.args, steps)
            assert (steps.started, steps.steps) == (1, 3), way.name
    start = spec.model()
    reference = trained.pop(recipe.AUTHORS)
    mask = spec.mask(recipes.TASKS[task]("fr", spec.base).task.build(spec.base)[0])
    moved = 0.0
    for name, entry in prunable(reference).items():
        if not name.startswith("pooler."):
            assert not entry.parameter[~mask[name]].any()
            moved += float((entry.parameter - prunable(start)[name].parameter).abs().max())
            for other in trained.values():
                torch.testing.assert_close(prunable(other)[name].parameter, entry.parameter, rtol=1e-3, atol=1e-4)
    assert moved > 1e-2
    assert len(trained) >= 1
    scores = [recipes.score(spec, model) for model in (reference, *trained.values())]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=0.07)  # of 16 rows


def test_a_loop_makes_its_steps_in_its_turn_and_no_others(tmp_path):
    loop = Loop(counting, str(tmp_path), steps=3)
    try:
        loop.ready()
        assert not list(tmp_path.iterdir())
        for turn in (1, 2):
            loop.turn()
            assert len(list(tmp_path.iterdir())) == 3 * turn
    finally:
        loop.close()
    assert [report.waited for report in loop.reports] == [0.0, 0.0]
    assert all(report.peak > 1e6 and report.seconds > 0 for report in loop.reports)


def test_the_rows_of_a_turn_are_whole_batches_of_all_lengths():
    lengths = np.clip(np.random.default_rng(0).gamma(2.0, 12.0, 9000).astype(int) + 4, 4, 128)
    rows = recipe.typical_rows(lengths, 32, 8)
    assert len(set(rows.tolist())) == 256
    assert lengths[rows].mean() == pytest.approx(lengths.mean(), rel=0.1)
    longest = lengths[rows].reshape(8, 32).max(1)
    assert (np.diff(longest) >= 0).all()


def test_without_data_the_recipe_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("LNSUB_SHARED", str(tmp_path))
    (row,) = recipe.run(quick=False, repeats=1)
    assert row.case == "not run"
    assert str(tmp_path) in str(row.values["missing"])


@pytest.mark.parametrize("how", [masking.DENSE, masking.MASKED, masking.REPARAMETRISED])
def test_what_is_weighed_is_a_training_step(how):
    step: Callable[[], object] = masking._trained(how, masking.QUICK)
    assert isinstance(step(), float)
