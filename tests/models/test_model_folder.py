"""Broken and hostile model folders are a sentence that names the folder; tests/attacks/model_folders.py has more."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForTokenClassification, BertForTokenClassification, BertModel
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from lnsub.common.errors import UserError
from lnsub.models.pretrained import load_model, load_tokenizer
from tests.support.models import bert_config

QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(bert, tmp_path):
    return shutil.copytree(bert, tmp_path / "model")


def load(folder, auto_class=AutoModelForTokenClassification, init="pretrained"):
    return load_model(auto_class, str(folder), init=init, attention="sdpa", num_labels=4)


def refusal(folder, what=load):
    """The one line that loading ends with."""
    with pytest.raises(UserError) as caught:
        what(folder)
    (line,) = str(caught.value).splitlines()
    assert str(folder) in line
    return line


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def reweigh(folder, **changes):
    """Replaces weights; None takes one away."""
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": "16"}, "hidden_size"),
        ({"hidden_size": 17}, "not a multiple"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000 in config.json, not from 0 to 10,000"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
        ({"hidden_dropout_prob": 2}, "hidden_dropout_prob is 2 in config.json, not from 0 to 1"),
        ({"hidden_act": "no such act"}, "no such act"),
        ({"hidden_size": 160}, "but its files hold only"),
        ({"intermediate_size": 48}, "the shape of .*intermediate.dense.bias"),
        ({"num_hidden_layers": 3}, "its weights lack bert.encoder.layer.2"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_a_configuration_of_no_model_is_refused(changes, reason, folder):
    rewrite(folder / "config.json", **changes)
    with pytest.raises(UserError, match=rf"The model in '{folder}' cannot be loaded: .*{reason}"):
        load(folder)


def test_fresh_weights_need_a_configuration_that_makes_a_model(folder):
    rewrite(folder / "config.json", vocab_size=10**12)
    assert "this machine's memory" in refusal(folder, lambda place: load(place, init="random"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_name(value, folder):
    weight = load_file(folder / "model.safetensors")[QUERY]
    weight[3, 4] = value
    reweigh(folder, **{QUERY: weight})
    assert f"bert.{QUERY} has weights that are NaN or infinite" in refusal(folder)


def test_large_weights_whose_sum_overflows_are_taken(folder):
    weight = torch.full_like(load_file(folder / "model.safetensors")[QUERY], 1e38)
    reweigh(folder, **{QUERY: weight})
    model, _ = load(folder)
    assert torch.equal(model.get_parameter(f"bert.{QUERY}"), weight)


def test_integers_are_no_weights(folder):
    reweigh(folder, **{QUERY: torch.zeros(16, 16, dtype=torch.int8)})
    assert f"{QUERY} in model.safetensors are of type int8" in refusal(folder)


def test_weights_inside_of_the_base_model_are_never_drawn_at_random(folder):
    weight = load_file(folder / "model.safetensors")[QUERY]
    reweigh(folder, **{QUERY: None})
    assert f"its weights lack bert.{QUERY}" in refusal(folder)
    reweigh(folder, **{QUERY: weight[:8].clone()})
    assert f"the shape of bert.{QUERY} in its weights" in refusal(folder)


def test_layers_that_the_configuration_leaves_out_are_told(folder, caplog):
    load(folder)
    assert not caplog.records
    cut = shutil.copytree(folder, folder.parent / "cut")  # what is known of a folder is kept by its name
    rewrite(cut / "config.json", num_hidden_layers=1)
    model, _ = load(cut)
    assert len(model.base_model.encoder.layer) == 1
    (told,) = (record.getMessage() for record in caplog.records)
    assert "config.json leaves out layers that its weights have, such as encoder.layer.1.attention" in told


def test_a_pooler_may_be_missing(folder):
    reweigh(folder, **{"pooler.dense.weight": None, "pooler.dense.bias": None})
    _, missing = load(folder, AutoModel)
    assert missing == {"pooler.dense.weight", "pooler.dense.bias"}


def test_a_head_may_be_missing_or_of_another_shape(folder, tmp_path):
    _, missing = load(folder)
    assert missing == {"classifier.weight", "classifier.bias"}
    other = tmp_path / "other"
    BertForTokenClassification(bert_config(num_labels=7)).save_pretrained(other)
    _, missing = load(other)
    assert missing == {"classifier.weight", "classifier.bias"}


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_runs_no_code(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(tmp_path / "mark")))
    assert "pytorch_model.bin is damaged, or holds other things than tensors" in refusal(folder)
    torch.save({QUERY: Hostile(tmp_path / "mark")}, folder / "pytorch_model.bin")
    assert "pytorch_model.bin is damaged, or holds other things than tensors" in refusal(folder)
    assert not (tmp_path / "mark").exists()
    pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_pickle_of_tensors_is_read(folder):
    model, _ = load(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    again, _ = load(folder)
    assert torch.equal(again.get_parameter(f"bert.{QUERY}"), model.get_parameter(f"bert.{QUERY}"))


@pytest.mark.parametrize("kind", ["mine", "bert"])
def test_code_in_a_folder_never_runs(kind, folder, tmp_path):
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'mark')!r}).touch()\nclass Mine: pass\n"
    (folder / "mine.py").write_text(code)
    places = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForTokenClassification"), "mine.Mine")
    rewrite(folder / "config.json", model_type=kind, auto_map=places)
    rewrite(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "mine.Mine"]})
    if kind == "bert":  # transformers has a class of its own for it
        load(folder)
        load_tokenizer(str(folder))
    else:
        assert "it needs code of its own (auto_map in config.json), which lnsub does not run" in refusal(folder)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "generation_config.json", "notes"])
def test_a_fifo_is_not_waited_for(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert f"{name} is a FIFO" in refusal(folder)


@pytest.mark.parametrize(("place", "reason"), [("../x", "outside of the folder"), ("gone", "which is not there")])
def test_an_index_names_files_of_its_folder(place, reason, folder):
    (folder / "model.safetensors").rename(folder.parent / "x")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {QUERY: place}}))
    assert reason in refusal(folder)


def test_shards_are_read(folder):
    before, _ = load(folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    names = load_file(folder / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    after, _ = load(folder)
    assert torch.equal(after.get_parameter(f"bert.{QUERY}"), before.get_parameter(f"bert.{QUERY}"))


def test_a_tokenizer_has_no_more_tokens_than_its_model(folder):
    BertModel(bert_config(12)).save_pretrained(folder)
    assert "tokens are numbered up to" in refusal(folder, lambda place: load_tokenizer(str(place)))


def test_a_tokenizer_takes_no_more_than_its_model_has_positions_for(folder):
    rewrite(folder / "tokenizer_config.json", model_max_length=VERY_LARGE_INTEGER)
    assert load_tokenizer(str(folder)).model_max_length == 128


@pytest.mark.parametrize("value", ["64", -1, 0, None, [8]])
def test_a_longest_input_is_a_length(value, folder):
    rewrite(folder / "tokenizer_config.json", model_max_length=value)
    if value is None:
        assert load_tokenizer(str(folder)).model_max_length == 128
    else:
        assert "its model_max_length is" in refusal(folder, lambda place: load_tokenizer(str(place)))


def test_a_vocabulary_that_panics_is_a_sentence(folder):
    path = Path(folder / "tokenizer.json")
    rewrite(path, post_processor={**json.loads(path.read_text())["post_processor"], "special_tokens": {}})
    assert "PanicException" in refusal(folder, lambda place: load_tokenizer(str(place)))
