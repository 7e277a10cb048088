"""The trainer's settings: their bounds, which Lightning's signature lacks, and those that a run cannot have."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from lnsub.common.bounds import (
    Count,
    CountOrZero,
    Limit,
    Nodes,
    NonNegative,
    OrAll,
    Part,
    check_numbers,
    hints_of,
    shown,
)
from lnsub.common.errors import UserError
from lnsub.training.precision import affordable
from lnsub.training.sharded import check_strategy

TYPES: dict[str, Any] = {
    "num_nodes": Nodes,
    "max_epochs": Limit | None,
    "min_epochs": CountOrZero | None,
    "max_steps": Limit,
    "min_steps": CountOrZero | None,
    "limit_train_batches": Count | Part | None,
    "limit_val_batches": Count | Part | None,
    "limit_test_batches": Count | Part | None,
    "limit_predict_batches": Count | Part | None,
    "val_check_interval": Count | Part | None,
    "check_val_every_n_epoch": Count | None,
    "num_sanity_val_steps": OrAll | None,
    "log_every_n_steps": CountOrZero | None,
    "accumulate_grad_batches": Count,
    "gradient_clip_val": NonNegative | None,
}
"""What Lightning declares as any number, and what it is here."""

UNSUPPORTED = {
    "fast_dev_run": "it keeps no results; trainer.limit_train_batches and limit_val_batches make a short run",
    "overfit_batches": "it changes the order of the data; use data.init_args.max_train_examples",
    "max_time": "a fit that ends by the clock cannot be repeated; use trainer.max_epochs or max_steps",
    "barebones": "it turns off what records and checkpoints need",
    "reload_dataloaders_every_n_epochs": "rows do not change from epoch to epoch",
}
"""Settings of the trainer that must be left at their defaults, and why."""

_FROM_WITHIN = {"spawn", "fork", "forkserver", "notebook"}

MOST_DEVICES = 256
"""Processes on one node; more are a slip of the keyboard, and would all be started."""


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Checks the trainer's settings, before anything is made of them.

    Raises:
        UserError: one of them is out of its bounds, or cannot be used with lnsub.
    """
    for name, why in UNSUPPORTED.items():
        if settings[name]:
            raise UserError(f"trainer.{name} is {shown(settings[name])}, which lnsub does not support: {why}.")
    check_numbers(hints_of(Trainer) | TYPES, settings, prefix="trainer.")
    for unit in ("epochs", "steps"):
        least, most = settings[f"min_{unit}"], settings[f"max_{unit}"]
        if least is not None and most is not None and 0 < most < least:
            raise UserError(f"trainer.min_{unit} is {least}, but trainer.max_{unit} is {most}.")
    if _start_method(settings["strategy"]) in _FROM_WITHIN:
        raise UserError(
            f"trainer.strategy is {shown(settings['strategy'])}, whose processes are copies of the first one: use ddp, "
            "which starts them as programs of their own."
        )
    devices = settings["devices"]
    count = int(devices) if isinstance(devices, str) and devices.strip().isdecimal() and len(devices) < 20 else devices
    if isinstance(count, int) and count > MOST_DEVICES:
        raise UserError(f"trainer.devices is {shown(devices)}: it must be at most {MOST_DEVICES}, those of one node.")


def make_trainer(arguments: Mapping[str, Any]) -> Trainer:
    """Makes a trainer; its precision is one that the processor has units for.

    Raises:
        UserError: Lightning refuses the arguments, or the strategy is one that masks cannot follow.
    """
    precision = affordable(arguments.get("precision"), arguments.get("accelerator", "auto"))
    try:
        trainer = Trainer(**{**arguments, "precision": precision})
    except Exception as error:  # of any kind: it checks and combines its arguments, and does nothing else
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"Lightning cannot make a trainer of these settings: {reason}") from error
    check_strategy(trainer.strategy)
    return trainer


def _start_method(strategy: Any) -> str:
    """How a strategy starts its processes, as far as its name or its arguments tell."""
    if isinstance(strategy, Mapping):
        return str((strategy.get("init_args") or {}).get("start_method") or "")
    return next((part for part in str(strategy).split("_") if part in _FROM_WITHIN), "")
