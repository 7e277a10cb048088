"""The trainer's settings: bounds, and what a run cannot have."""

import math

import pytest
from lightning.pytorch import Trainer

from lnsub.common.bounds import hints_of
from lnsub.common.errors import UserError
from lnsub.training.config import RunConfig
from lnsub.training.setup import build
from lnsub.training.trainer_settings import TYPES, UNSUPPORTED, make_trainer


def parsed(**trainer: object) -> RunConfig:
    data = {"class_path": "lnsub.XNLI", "init_args": {"language": "en"}}
    return RunConfig.of({"data": data, "trainer": {"max_epochs": 1, **trainer}})


def test_they_are_settings_of_lightning():
    assert (TYPES.keys() | UNSUPPORTED.keys()) <= hints_of(Trainer).keys()


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "max_steps": [0, -2, None, "many"],
        "max_epochs": [0, -7],
        "limit_train_batches": [0, 0.0, 1.5, -1, math.nan],
        "limit_val_batches": [0],
        "val_check_interval": [0, 0.0, 1.5, -3, "00:10:00:00"],
        "check_val_every_n_epoch": [0, -1],
        "accumulate_grad_batches": [0, None],
        "gradient_clip_val": [-1.0, math.nan, math.inf],
        "num_nodes": [0, 10**9, None],
        "num_sanity_val_steps": [-2],
        "log_every_n_steps": [-1],
        "devices": [10**6, "1000000", None],
        "strategy": ["ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_spawn_find_unused_parameters_true", None],
        "accelerator": [None],
        "precision": ["bf15"],
        "overfit_batches": [1, 0.5],
        "fast_dev_run": [True, 3],
        "max_time": ["00:00:10:00"],
        "barebones": [True],
        "reload_dataloaders_every_n_epochs": [1],
    }.items(),
)
def test_what_is_out_of_bounds_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UserError, match=name):
            parsed(**{name: value})


@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_no_more_can_be_needed_than_is_allowed(unit):
    with pytest.raises(UserError, match=f"min_{unit} is 5, but trainer.max_{unit} is 2"):
        parsed(**{f"min_{unit}": 5, f"max_{unit}": 2})
    parsed(**{f"min_{unit}": 2, f"max_{unit}": 5})


def test_what_is_within_bounds_is_taken():
    parsed(max_epochs=-1, max_steps=10, limit_train_batches=0.5, limit_val_batches=3, val_check_interval=2)
    parsed(check_val_every_n_epoch=None, val_check_interval=10, gradient_clip_val=0, devices=4, strategy="ddp")
    parsed(devices="auto", num_sanity_val_steps=-1, log_every_n_steps=0, accumulate_grad_batches=4)


def test_a_start_method_within_a_strategys_arguments_is_found():
    ddp = "lightning.pytorch.strategies.DDPStrategy"
    with pytest.raises(UserError, match="copies of the first one"):
        parsed(strategy={"class_path": ddp, "init_args": {"start_method": "fork"}})
    parsed(strategy={"class_path": ddp, "init_args": {"find_unused_parameters": True}})


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "fsdp", "accelerator": "cpu"},
        {"strategy": "nonsense"},
        {"accelerator": "abacus"},
        {"devices": "first"},
        {"devices": []},
        {"devices": 0, "accelerator": "cpu"},
        {"profiler": "nonsense"},
        {"gradient_clip_algorithm": "nonsense"},
        {"limit_train_batches": 1.5},
    ],
    ids=str,
)
def test_what_lightning_refuses_is_one_sentence(arguments):
    with pytest.raises(UserError, match=r"^Lightning cannot make a trainer of these settings: [^\n]+$"):
        make_trainer({"logger": False, "enable_checkpointing": False, **arguments})


def test_two_loops_are_refused(bert, tmp_path):
    imp = {"class_path": "lnsub.IMPCallback"}
    data = {"class_path": "lnsub.XNLI", "init_args": {"language": "en"}}
    trainer = {"max_epochs": 1, "accelerator": "cpu", "callbacks": [imp, imp]}
    config = RunConfig.of({"data": data, "model": {"base_model": bert}, "trainer": trainer, "output": str(tmp_path)})
    with pytest.raises(UserError, match="IMPCallback"):
        build(config)
