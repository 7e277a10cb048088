"""The configurations are the paper's, value by value, and the layers on top of them what its authors' code does.

The settings are those of Foroutan et al. (2022), section 4 and table 7, and of the code that they published.
"""

from pathlib import Path
from typing import Any

import pytest

from lnsub.training.budget import Budget
from lnsub.training.config import RunConfig

CONFIGS = Path(__file__).parents[1] / "configs"
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]

MBERT, MT5 = "google-bert/bert-base-multilingual-cased", "google/mt5-base"
# Per configuration: the model, the metric, training and validation examples, epochs or steps a round, examples in a
# batch, tokens in an input that the paper names, the peak learning rate.
TABLE_7: dict[str, dict[str, Any]] = {
    "mlm_en": {
        "model": MBERT,
        "metric": "perplexity",
        "examples": (1_600_000, 30_000),
        "epochs": -1,
        "steps": 100_000,
        "batch": 16,
        "length": 512,
        "rate": 5e-5,
    },
    "wikiann_ur": {
        "model": MBERT,
        "metric": "f1",
        "examples": (20_000, 10_000),
        "epochs": 3,
        "steps": -1,
        "batch": 32,
        "rate": 2e-5,
    },
    "xnli_fr": {
        "model": MBERT,
        "metric": "accuracy",
        "examples": (392_702, 2_490),
        "epochs": 3,
        "steps": -1,
        "batch": 32,
        "rate": 5e-5,
    },
    "xnli_fr_mt5": {
        "model": MT5,
        "metric": "accuracy",
        "examples": (392_702, 2_490),
        "epochs": 3,
        "steps": -1,
        "batch": 32,
        "rate": 2e-4,
    },
}
STEPS_OF_AN_EPOCH = {"mlm_en": 100_000, "wikiann_ur": 625, "xnli_fr": 12_270, "xnli_fr_mt5": 12_270}


def parsed(*names: str) -> RunConfig:
    return RunConfig.parse([f"--config={CONFIGS / name}.yaml" for name in names])


def imp(config: RunConfig) -> dict[str, Any]:
    (callback,) = config.trainer["callbacks"]
    assert callback["class_path"] in {"lnsub.IMPCallback", "lnsub.training.imp.IMPCallback"}
    return callback["init_args"]


@pytest.mark.parametrize("name", TABLE_7)
def test_a_configuration_is_the_papers(name):
    config, paper = parsed(name), TABLE_7[name]
    data = config.data["init_args"]
    assert config.model["base_model"] == paper["model"]
    task = config.data_module().task
    assert task.metric == paper["metric"]
    assert task.higher_is_better == (paper["metric"] != "perplexity")
    unit = "blocks" if task.name == "mlm" else "examples"
    assert (data[f"max_train_{unit}"], data[f"max_eval_{unit}"]) == paper["examples"]
    budget = Budget.of_settings(config.trainer["max_epochs"], config.trainer["max_steps"])
    assert (budget.epochs, budget.steps) == (paper["epochs"], paper["steps"])
    assert data["batch_size"] == paper["batch"]
    assert data["max_length"] == paper.get("length", data["max_length"])
    assert config.trainer["accumulate_grad_batches"] == 1
    assert paper["examples"][0] / paper["batch"] == pytest.approx(STEPS_OF_AN_EPOCH[name], abs=2)
    # Adam with epsilon 1e-8, which AdamW is without weight decay; linear to zero in each round, without a warm-up.
    assert config.model["learning_rate"] == paper["rate"]
    assert (config.model["optimizer"], config.model["weight_decay"], config.model["adam_epsilon"]) == ("adamw", 0, 1e-8)
    assert (config.model["lr_schedule"], config.model["warmup"]) == ("linear", 0)
    # A tenth of the original weights a round, by magnitude, rewound to the pre-trained ones.
    loop = imp(config)
    assert loop["sparsities"] == LEVELS
    assert (loop["schedule"], loop["score"], loop["rewind"], loop["rewind_lr"]) == ("linear", "magnitude", "init", True)
    assert loop["scope"] == ("stack" if paper["model"] == MT5 else "global")


@pytest.mark.parametrize("name", TABLE_7)
def test_every_language_of_a_task_gets_the_same_number_of_examples(name):
    languages = {"mlm": "ar de en es fa fr hi ru sw ur zh", "wikiann": "ar de en es fa fr ru ur zh"}
    config = parsed(name)
    for language in languages.get(name.split("_")[0], "ar de en es fr hi ru sw ur zh").split():
        data = config.data_module(language)
        assert (data.max_train_examples, data.max_eval_examples) == (
            config.data["init_args"]["max_train_examples"],
            config.data["init_args"]["max_eval_examples"],
        )


def changed(*names: str) -> dict[str, tuple[Any, Any]]:
    """The settings that a layer changes, by dotted key, with the values before and after."""
    before, after = (_flat(config.settings()) for config in (parsed(*names[:-1]), parsed(*names)))
    return {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf for key, inner in value.items() for name, leaf in _flat(inner, f"{prefix}.{key}".strip(".")).items()
    }


IN_THE_CODE = {
    "trainer.precision": ("bf16-mixed", "32-true"),
    "trainer.callbacks.0.init_args.rewind_lr": (True, False),
    "trainer.callbacks.0.init_args.head": ("reinit", "keep"),
}


@pytest.mark.parametrize("name", ["xnli_fr", "wikiann_ur"])
def test_the_layer_is_what_the_authors_code_does(name):
    assert changed(name, "as_in_the_code") == IN_THE_CODE


def test_the_layers_of_masked_language_modelling():
    assert changed("mlm_en", "as_in_the_code_mlm") == {
        **IN_THE_CODE,
        "model.learning_rate": (5e-5, 2e-5),
        "trainer.max_steps": (100_000, 10_000),
        "trainer.val_check_interval": (100_000, 10_000),
    }
    assert changed("mlm_en", "as_in_the_code_mlm", "as_in_the_code_mlm_transfer") == {
        "trainer.max_steps": (10_000, 20_000),
        "trainer.val_check_interval": (10_000, 20_000),
    }


def test_the_layers_of_mt5():
    assert changed("xnli_fr_mt5", "as_in_the_code_mt5") == IN_THE_CODE
    assert imp(parsed("xnli_fr_mt5", "as_in_the_code_mt5"))["scope"] == "stack"
    assert changed("xnli_fr_mt5", "as_in_the_code_mt5", "as_in_the_code_mt5_transfer") == {
        "model.optimizer": ("adamw", "adafactor"),
        "model.lr_schedule": ("linear", "constant"),
    }


def test_a_mixture_has_the_examples_of_one_language_in_all():
    mixture = parsed("wikiann_ur").data_module("en+fa+fr+zh")
    assert [part.max_train_examples for part in mixture.parts] == [5000] * 4
    assert sum(part.max_train_examples for part in mixture.parts) == TABLE_7["wikiann_ur"]["examples"][0]
