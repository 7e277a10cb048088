"""The GPU's benchmark: parts that fail cost the others nothing, and what it counts and concludes is right."""

import os
import time

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.device import Device
from benchmarks.gpu.summary import summary
from benchmarks.gpu.workload import LONGEST, Settings, make_batches, products, shape, xnli_lengths
from benchmarks.worker import PartFailed, Worker


def test_a_part_that_raises_dies_or_overruns_is_told_of_and_the_next_one_runs():
    with Worker("json") as worker:
        first = worker.call(os.getpid, seconds=60)
        assert worker.call(os.getpid, seconds=60) == first
        with pytest.raises(PartFailed, match="ValueError"):
            worker.call(int, "x", seconds=60)
        assert worker.call(os.getpid, seconds=60) != first
        with pytest.raises(PartFailed, match="status 3"):
            worker.call(os._exit, 3, seconds=60)
        with pytest.raises(PartFailed, match="0 s"):
            worker.call(time.sleep, 60, seconds=0.01)
        assert worker.call(len, "abc", seconds=60) == 3


def test_products_are_those_that_torch_counts():
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False)
    lengths = np.array([7, 12])
    counted = 0
    for length in lengths:
        with FlopCounterMode(display=False) as counter:
            model(torch.ones(1, length, dtype=torch.long)).last_hidden_state.sum().backward()
        counted += counter.get_total_flops()
    # The first layer's input needs a gradient too, as there are embeddings below it: every product counts three times.
    assert products(config, lengths) == counted


def test_batches_have_the_lengths_of_xnli_and_widths_of_the_ladder():
    with shape(quick=False) as folder:
        settings = Settings(Device("cpu"), folder, quick=False, repeats=1)
        lengths = xnli_lengths(settings, 32)
        assert 50 < lengths.mean() < 60
        batches = make_batches(settings, 32, 16)
        assert len(batches) == settings.batches
        assert sum(int(batch["attention_mask"].sum()) for batch in batches) == lengths.sum()
        assert {batch["input_ids"].shape[1] for batch in batches} <= set(range(16, LONGEST + 1, 16))
        padded = make_batches(settings, 32, LONGEST)
        assert {tuple(batch["input_ids"].shape) for batch in padded} == {(32, LONGEST)}


def test_the_shape_is_that_of_mbert():
    with shape(quick=False) as folder, torch.device("meta"):
        model = BertModel(BertConfig.from_pretrained(folder))
    assert sum(parameter.numel() for parameter in model.parameters()) == 177_853_440  # of bert-base-multilingual-cased


def test_conclusions_follow_from_the_rates_and_leave_out_what_failed():
    settings = Settings(Device("cpu"), "", quick=False, repeats=1)
    facts = {
        "authors": {"examples/s": 500.0},
        "ceilings": {"peak": 8e14, "bandwidth": 4e12},
        "fit: a": {"examples/s": 6000.0, "start": 60.0, "round start": 2.0},
        "validating": {"rate": 2490.0},
        "between rounds": {"seconds": 4.0},
        "checkpointing": {"seconds": 1.5},
        "fit: b": {"examples/s": 4000.0},
        "many: a": {"examples/s": 15000.0, "flop/s": 4e14},
    }
    by_case = {row.case: row for row in summary(settings, facts)}
    assert by_case["lnsub fit, 32 examples: fit: a"].values["x the authors' examples/s"] == 12
    assert by_case["256 examples: many: a"].values["% of the measured matrix peak"] == 50
    run = next(row for case, row in by_case.items() if case.startswith("one run of IMP"))
    training = 10 * 3 * 392_702 / 6000 / 60
    assert run.values["minutes of training"] == pytest.approx(training)
    other = {
        "of starting fits": 78,
        "of validation": 30,
        "between rounds": 36,
        "of checkpoints": 1.5 * (training / 10 + 10),
    }
    for name, seconds in other.items():
        assert run.values[name] == pytest.approx(seconds / 60)
    assert run.values["minutes"] == pytest.approx(training + sum(other.values()) / 60)
    assert [claim.met for row in by_case.values() for claim in row.claims] == [True, True, False]
    partly = summary(settings, {"fit: a": {"examples/s": 6000.0}})
    assert not [claim for row in partly for claim in row.claims if claim.text.endswith("min")]
    assert summary(settings, {}) == []


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "CUDA" in line
