"""What all tasks share: they are found, configured, and build models from checkpoints."""

import pickle
import re
import shutil

import pytest
import torch
import transformers
from jsonargparse import ArgumentError, ArgumentParser
from torchmetrics import MetricCollection
from transformers import AutoModel, PreTrainedModel

import lnsub
from lnsub.common.errors import UserError
from lnsub.models.attention import SDPA
from lnsub.tasks import data_modules, tasks
from lnsub.tasks.clm import CausalLM
from lnsub.tasks.metrics import TokenAccuracy
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.words import TaggedWords, WordTask
from lnsub.tasks.xnli import XNLI


def test_every_task_is_found_and_states_its_facts(bert, decoder):
    names = {"xnli", "wikiann", "udpos", "mlm", "clm"}
    assert tasks().keys() >= names
    assert {module.task_class.name for module in data_modules().values()} >= names
    for name, module in data_modules().items():
        assert getattr(lnsub, name) is module
        base = decoder if module is CausalLM else bert
        task = module("fr", base).task
        assert task == tasks()[task.name](base)
        assert task.metric in task.metrics()
        assert task.metrics()[task.metric].higher_is_better == task.higher_is_better
        assert issubclass(type(task.build(base)[0]), PreTrainedModel)
        assert hasattr(transformers, task.auto_class)
        assert (module("fr", bert).dataset, module("fr", bert, "mine").dataset) == (task.dataset, "mine")


def test_a_task_that_is_defined_elsewhere_is_one_too(bert):
    class Colours(WordTask):
        name, title, metric, metric_title, dataset, labels = "colours", "C", "accuracy", "accuracy", "me/c", ("R", "B")

        def metrics(self):
            return MetricCollection({"accuracy": TokenAccuracy()})

    class ColourWords(TaggedWords):
        task_class = Colours
        columns = ("tokens", "colours")

    assert tasks()["colours"] is Colours
    assert ColourWords("fr", bert).task.build(bert)[0].config.id2label == {0: "R", 1: "B"}
    assert "ColourWords" not in data_modules()


def test_an_argument_that_there_is_none_of_is_refused(bert):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LanguageDataModule, "data")
    for name, module in data_modules().items():
        with pytest.raises(TypeError, match="langauge"):
            module(langauge="fr", tokenizer=bert)
        with pytest.raises(ArgumentError, match="langauge"):
            parser.parse_args([f"--data=lnsub.{name}", "--data.langauge=fr", "--data.tokenizer=x"])


@pytest.mark.parametrize("task", data_modules().values())
def test_a_config_can_build_every_data_module_and_its_help_says_what_each_argument_is(task, capsys):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LanguageDataModule, "data")
    path = f"lnsub.{task.__name__}"
    arguments = ["language=fr", "tokenizer=x", "max_eval_examples=5"]
    config = parser.parse_args([f"--data={path}", *(f"--data.{argument}" for argument in arguments)])
    module = parser.instantiate_classes(config).data
    assert type(module) is task
    assert (module.language, module.max_eval_examples, module.batch_size) == ("fr", 5, 32)
    assert pickle.loads(pickle.dumps(module.task)) == module.task
    with pytest.raises(SystemExit):
        parser.parse_args([f"--data.help={path}"])
    options = re.split(r"\n  --data\.", capsys.readouterr().out)[1:]
    assert {option.split()[0] for option in options} == set(vars(config.data.init_args))
    for option in options:
        _name, _metavar, *words = re.sub(r"\((required,\s+)?type:.*", "", option, flags=re.DOTALL).split()
        assert len(words) > 3, option


@pytest.mark.parametrize("task", [module for module in data_modules().values() if module is not CausalLM])
def test_a_model_is_built_quietly_in_float32_with_a_new_head(task, bert, tmp_path, capfd):
    half = tmp_path / "half"
    AutoModel.from_pretrained(bert).half().save_pretrained(half)
    expected = AutoModel.from_pretrained(half, dtype=torch.float32).state_dict()
    capfd.readouterr()
    model, missing = task("fr", bert).task.build(str(half))
    assert capfd.readouterr() == ("", "")
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert missing
    assert missing < names
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    for name, value in model.state_dict().items():
        if name.removeprefix("bert.") in expected and name not in missing:
            assert torch.equal(value, expected[name.removeprefix("bert.")])
    assert not [name for name in missing if ".encoder." in name or ".embeddings." in name]


def test_a_random_model_has_the_shapes_but_none_of_the_weights(bert):
    task = XNLI("fr", bert).task
    pretrained, _ = task.build(bert)
    torch.manual_seed(5)
    random, missing = task.build(bert, init="random")
    torch.manual_seed(5)
    again, _ = task.build(bert, init="random")
    assert missing == {name for name, _ in random.named_parameters()}
    name = "bert.encoder.layer.0.attention.self.query.weight"
    values = [model.get_parameter(name) for model in (pretrained, random, again)]
    assert values[0].shape == values[1].shape
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[1], values[2])


def test_the_attention_implementation_is_the_one_asked_for(bert):
    task = XNLI("fr", bert).task
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    outputs = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model, _ = task.build(bert, attention=attention)
        assert model.config._attn_implementation == {"eager": "eager", "sdpa": SDPA}[attention]
        outputs.append(model.eval()(ids, attention_mask=(ids > 0).long()).logits)
    torch.testing.assert_close(*outputs)
    with pytest.raises(UserError, match="cannot be loaded"):
        task.build(bert, attention="nonesuch")


def test_a_head_of_another_size_in_the_checkpoint_is_replaced(bert, tmp_path):
    model, _ = WikiANN("fr", bert).task.build(bert)
    model.save_pretrained(tmp_path)
    model.config.num_labels = 9
    type(model)(model.config).save_pretrained(tmp_path)
    model, missing = WikiANN("fr", bert).task.build(str(tmp_path))
    assert model.classifier.out_features == 7
    assert missing == {"classifier.weight", "classifier.bias"}


def test_a_base_model_that_cannot_be_used_is_refused_in_one_sentence(bert, mt5, tmp_path):
    build = WikiANN("fr", bert).task.build
    with pytest.raises(UserError, match=r"There is no folder '.*gone'"):
        build(str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"holds no Hugging Face model: it has no config\.json"):
        build(str(tmp_path))
    with pytest.raises(UserError, match="'no/model' is neither a folder here nor a model that could be fetched"):
        build("no/model")
    with pytest.raises(UserError, match=r"is an encoder-decoder .*and wikiann is for encoders only"):
        build(mt5)
    with pytest.raises(UserError, match=r"is an encoder-decoder .*and mlm is for encoders only"):
        WikipediaMLM("fr", bert).task.build(mt5)
    broken = shutil.copytree(bert, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"The model in '.*broken' cannot be loaded: "):
        build(str(broken))
    (broken / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match="cannot be loaded: "):
        build(str(broken))
