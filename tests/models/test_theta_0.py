"""theta_0 on disk: what is mapped equals what was loaded, and a fingerprint is that of the checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertModel

from lnsub.models.subnet import Subnet
from lnsub.models.theta_0 import on_disk, unrounded
from lnsub.tasks.clm import CausalLMTask
from lnsub.tasks.task import Task
from lnsub.tasks.wikiann import WikiANNTask
from lnsub.training.module import SubnetModule


def converted(state: dict[str, torch.Tensor], name: str, like: torch.Tensor) -> torch.Tensor:
    return state[name].to(like.dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_what_is_mapped_converts_to_what_was_loaded(decoder, tmp_path, dtype, stored):
    base = tmp_path / "base"
    model = AutoModel.from_pretrained(decoder, dtype=stored)  # the bare model: names lack their prefix
    model.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((Path(decoder) / name).read_bytes())
    built, missing = WikiANNTask(str(base)).build(str(base), dtype=dtype)
    found = on_disk(built, str(base))
    assert found.keys() == built.state_dict().keys() - missing
    for name, tensor in found.items():
        assert tensor.dtype == stored
        assert torch.equal(converted(found, name, built.state_dict()[name]), built.state_dict()[name])


def test_a_tied_output_layer_is_mapped_once_and_changed_weights_are_not_mapped(decoder):
    model, _ = CausalLMTask(decoder).build(decoder)
    name = "model.layers.0.mlp.up_proj.weight"
    with torch.no_grad():
        model.get_parameter(name)[0, 0] += 1
    found = on_disk(model, decoder)
    assert model.state_dict().keys() - found.keys() == {name}
    assert found["lm_head.weight"].data_ptr() == found["model.embed_tokens.weight"].data_ptr()


def test_what_is_not_in_safetensors_is_not_mapped(bert, tmp_path):
    model = BertModel.from_pretrained(bert)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert on_disk(model, str(tmp_path)) == {}
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    assert on_disk(model, str(tmp_path)) == {}


def test_a_mapped_checkpoint_stays_theta_0_when_its_file_is_replaced(decoder, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for path in Path(decoder).iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    model, _ = CausalLMTask(str(base)).build(str(base))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = on_disk(model, str(base))
    other = {name: torch.zeros_like(tensor) for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(other, base / "new", {"format": "pt"})
    (base / "new").replace(base / "model.safetensors")
    assert all(torch.equal(found[name], before[name]) for name in found)


@pytest.mark.parametrize("task", [CausalLMTask, WikiANNTask])
def test_a_rewind_restores_the_model_from_what_is_mapped(decoder, task: type[Task]):
    module = SubnetModule(task(decoder), decoder, dtype="bfloat16")
    before = {name: tensor.clone() for name, tensor in module.subnet.state().items()}
    snapshot = module.snapshot_theta_0()
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.add_(1)
    module.subnet.rewind(snapshot)
    after = module.subnet.state()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    weights = module.subnet.prunable_of(snapshot)
    assert all(weight.dtype == torch.bfloat16 for weight in weights.values())


@pytest.mark.parametrize("readable", [True, False])
def test_the_fingerprint_of_rounded_weights_is_that_of_their_checkpoint(decoder, tmp_path, readable):
    base = Path(decoder)
    if not readable:  # no safetensors: loaded in float32 once more
        base = tmp_path
        for path in Path(decoder).iterdir():
            (base / path.name).write_bytes(path.read_bytes())
        torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
        (base / "model.safetensors").unlink()
    exact = Subnet(CausalLMTask(str(base)).build(str(base))[0])
    rounded = SubnetModule(CausalLMTask(str(base)), str(base), dtype="bfloat16")
    assert rounded.fingerprint == exact.fingerprint() != rounded.subnet.fingerprint()
    values = unrounded(
        rounded.model, str(base), rounded.subnet.weights, lambda: CausalLMTask(str(base)).build(str(base))
    )
    assert all(torch.equal(values[name], weight) for name, weight in exact.weights.items())
