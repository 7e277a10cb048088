"""Ablation of a decoder, with gates, grouped queries and bfloat16 weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lnsub.analysis.ablation.plan import Ablation, Settings
from lnsub.models.subnet import Subnet
from lnsub.models.unit_maps import units_of
from lnsub.runs.records import read
from lnsub.tasks.clm import CausalLM
from lnsub.tickets.finding import find_tickets
from lnsub.training.config import RunConfig
from tests.support.data_makers import batches, write_rows
from tests.support.decoders import TEXT, make_decoder
from tests.support.ticket_factory import ticket

LANGUAGES = ("en", "zh")


@pytest.fixture
def base(tmp_path: Path, cache: Path) -> str:
    for place, language in enumerate(LANGUAGES):
        for split in ("train", "validation"):
            write_rows(tmp_path / "data" / language / f"{split}.parquet", {"text": TEXT[place::2] * 12})
    return make_decoder(tmp_path / "base", "qwen3")


def measured(tmp_path: Path, base: str, granularity: str, chosen: dict[str, list[int]], **options: str) -> dict:
    """The loss of both languages without some units, and of the dense model."""
    model = AutoModelForCausalLM.from_pretrained(base)
    units, subnet = units_of(model, granularity), Subnet(model)
    kept = {name: np.isin(np.arange(count), chosen.get(name, [])) for name, (count,) in units.shapes.items()}
    masks = units.expanded(kept, subnet.shapes)
    facts = {"base_model": base, "base_fingerprint": subnet.fingerprint(), "task": "clm", "language": "zh"}
    facts |= {"granularity": granularity, "units": units.to_json()}
    path = ticket(masks, **facts).save(tmp_path / "one.safetensors")
    settings = [f"--model.base_model={base}", "--data=lnsub.CausalLM", f"--data.dataset={tmp_path / 'data'}"]
    settings += ["--data.language=en", "--data.max_length=32", "--trainer.accelerator=cpu"]
    config = RunConfig.parse([*settings, *(f"--{name}={value}" for name, value in options.items())])
    ablation = Ablation(tmp_path / "out", config, find_tickets([str(path)]), LANGUAGES, Settings(draws=1))
    ablation.run()
    assert not ablation.steps()
    found = read(ablation.results)
    assert {record.metric for record in found} == {"accuracy", "bits_per_byte", "loss", "perplexity"}
    return {(r.removed, r.target): r.value for r in found if r.metric == "loss"}


def by_hand(tmp_path: Path, base: str, language: str, change: object = None) -> float:
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    data = CausalLM(language, base, str(tmp_path / "data"), max_length=32)
    nats, count = 0.0, 0
    with torch.no_grad():
        if change:
            change(model.model.layers[1])
        for batch in batches(data.val_dataloader()):
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
            counted = batch["labels"] >= 0
            picked = logits.log_softmax(-1)[counted].gather(1, batch["labels"][counted][:, None])
            nats, count = nats - float(picked.sum()), count + int(counted.sum())
    return nats / count


def without_neurons(block: torch.nn.Module) -> None:
    block.mlp.gate_proj.weight[[3, 20]] = 0
    block.mlp.up_proj.weight[[3, 20]] = 0
    block.mlp.down_proj.weight[:, [3, 20]] = 0


def without_heads(block: torch.nn.Module) -> None:
    """The second group of two queries that share a key and a value: 4 heads of 4, 2 of which have keys."""
    block.self_attn.q_proj.weight[8:] = 0
    block.self_attn.k_proj.weight[4:] = 0
    block.self_attn.v_proj.weight[4:] = 0
    block.self_attn.o_proj.weight[:, 8:] = 0


@pytest.mark.parametrize(
    ("granularity", "chosen", "change"),
    [
        ("neuron", {"layers.1.mlp": [3, 20]}, without_neurons),
        ("head", {"layers.1.self_attn": [1]}, without_heads),
    ],
)
def test_a_decoders_units_are_taken_away_whole(tmp_path, base, granularity, chosen, change):
    found = measured(tmp_path, base, granularity, chosen)
    for language in LANGUAGES:
        assert found["none", language] == pytest.approx(by_hand(tmp_path, base, language), abs=1e-5)
        assert found["kept", language] == pytest.approx(by_hand(tmp_path, base, language, change), abs=1e-5)
        assert found["kept", language] != pytest.approx(found["none", language], abs=1e-5)


def test_weights_of_half_the_bits_will_do(tmp_path, base):
    found = measured(tmp_path, base, "neuron", {"layers.1.mlp": [3, 20]}, **{"model.dtype": "bfloat16"})
    for language in LANGUAGES:
        assert found["kept", language] == pytest.approx(by_hand(tmp_path, base, language, without_neurons), rel=0.01)
