"""A forward pass of the smaller dense model that a ticket of neurons stands for, against the masked model.

The models have the widths of mBERT and of Gemma 3 270M, four of their layers and a small vocabulary, so that what is
timed is the blocks. Half of each layer's neurons are pruned. As many weights pruned one by one save nothing: that is
the masked model.
"""

import copy
import dataclasses
from functools import partial

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, Gemma3TextConfig, PreTrainedModel

from benchmarks.harness import Case, Row, at_most, interleave
from benchmarks.mbert import provenance
from lnsub.export.shrinking import shrink
from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.pruning.granularity import select_units
from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket

LAYERS, WORDS, ROWS, LENGTH = 4, 1000, 16, 128
SPARSITY = 0.5


def run(quick: bool, repeats: int) -> list[Row]:
    """Times forward passes; asserts that the smaller model gives the masked one's logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shared = {"vocab_size": WORDS, "num_hidden_layers": 2 if quick else LAYERS}
        small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64} if quick else {}
        bert = AutoModelForMaskedLM.from_config(BertConfig(**shared | small))
        sizes = {"hidden_size": 640, "intermediate_size": 2048, "num_attention_heads": 4, "head_dim": 256} | small
        gemma = AutoModelForCausalLM.from_config(Gemma3TextConfig(**shared | sizes | {"num_key_value_heads": 1}))
        shape = (2, 8) if quick else (ROWS, LENGTH)
        ids = torch.randint(5, WORDS, shape)
        return [*_rows("mBERT", bert.eval(), ids, repeats), *_rows("Gemma 3 270M", gemma.eval(), ids, repeats)]


def _rows(name: str, dense: PreTrainedModel, ids: Tensor, repeats: int) -> list[Row]:
    masked = copy.deepcopy(dense)
    subnet = Subnet(masked)
    units = units_of(masked, "neuron")
    assert units is not None
    weights = {name: weight.detach() for name, weight in subnet.weights.items()}
    mask = select_units(weights, subnet.mask, SPARSITY, "layer", units)
    subnet.set_mask(mask)
    smaller = shrink(masked, subnet, _ticket(mask.restricted(units.parameters), units.to_json())).model
    difference = float((_forward(smaller, ids) - _forward(masked, ids)).abs().max())
    models = {f"{name}: dense": dense, f"{name}: masked": masked, f"{name}: half of the neurons cut out": smaller}
    timings = interleave((Case(case, partial(_forward, model, ids)) for case, model in models.items()), repeats)
    reference = f"{name}: masked"
    rows = []
    for case, model in models.items():
        ratio = None if case == reference else timings[case].ratio(timings[reference])
        values = {"MB of parameters": sum(p.numel() for p in model.parameters()) * 4 / 1e6}
        claims = []
        if model is smaller:
            values["largest difference of a logit"] = difference
            claims = [at_most(difference, 1e-3, "apart in a logit")]
        rows.append(Row(case, timings[case], "" if ratio is None else "masked", ratio, values, claims))
    return rows


def _ticket(mask: Mask, units: str) -> Ticket:
    found = dataclasses.replace(provenance("en", SPARSITY), granularity="neuron", units=units)
    return Ticket(mask.to_packed(), mask.shapes, found)


@torch.inference_mode()
def _forward(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids).logits
    return logits
