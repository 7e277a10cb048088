"""Snapshots on a GPU."""

import pytest
import torch

from lnsub.models.snapshots import on_gpu
from lnsub.models.subnet import Subnet
from tests.support.models import bert_classifier


def test_a_snapshot_stays_where_it_is_for_a_model_on_the_host():
    weights = Subnet(bert_classifier()).snapshot()
    assert on_gpu(weights, torch.device("cpu")) is weights


@pytest.mark.gpu
def test_a_snapshot_goes_to_the_gpu_where_it_fits(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    weights = Subnet(bert_classifier()).snapshot()
    weights["tied"] = next(iter(weights.values()))
    found = on_gpu(weights, torch.device("cuda"))
    assert all(tensor.is_cuda and torch.equal(tensor.cpu(), weights[name]) for name, tensor in found.items())
    assert found["tied"] is next(iter(found.values()))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (sum(t.nbytes for t in weights.values()), 0))
    assert on_gpu(weights, torch.device("cuda")) is weights
