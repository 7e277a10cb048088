"""The optimizers and learning-rate schedules of a fit."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import nn
from transformers.optimization import Adafactor

from lnsub.common.errors import UserError

OptimizerName = Literal["adamw", "adafactor"]
ScheduleName = Literal["linear", "constant"]


def make_optimizer(
    name: OptimizerName,
    parameters: list[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    epsilon: float,
    fused: bool,
    sharded: bool,
) -> torch.optim.Optimizer:
    """Makes the optimizer of one fit, without weight decay on biases and norms.

    Args:
        name: ``adamw`` (Loshchilov & Hutter, 2019; Adam where there is no weight decay), or ``adafactor`` (Shazeer &
            Stern, 2018, https://arxiv.org/abs/1804.04235) at the learning rate given: neither relative steps nor a
            scale by the parameters, as T5 and mT5 are fine-tuned.
        parameters: those to train.
        learning_rate: its peak.
        weight_decay: decoupled weight decay of matrices.
        epsilon: of AdamW alone.
        fused: for AdamW: all of a step in one kernel.
        sharded: whether the parameters are sharded over processes.

    Raises:
        UserError: Adafactor, whose second moments are means over rows and columns, of sharded parameters.
    """
    trained = in_order(parameters)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, eps=epsilon, fused=fused)
    if sharded:
        raise UserError("model.optimizer: adafactor does not train a sharded model: use adamw, or another strategy.")
    return Adafactor(groups, lr=learning_rate, scale_parameter=False, relative_step=False, warmup_init=False)


def in_order(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that are trained, in the order in which an optimizer's state numbers them: matrices first."""
    return sorted((p for p in parameters if p.requires_grad), key=lambda p: p.ndim <= 1)


def linear_schedule(step: int, total: int, warmup: int) -> float:
    """The learning-rate factor at optimizer step ``step``: linear from 0 over ``warmup`` steps, then linear to 0.

    Devlin et al. (2019); equals transformers' ``get_linear_schedule_with_warmup``.
    """
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def constant_schedule(step: int, total: int, warmup: int) -> float:
    """The learning-rate factor at optimizer step ``step``: linear from 0 over ``warmup`` steps, then 1.

    Equals transformers' ``get_constant_schedule_with_warmup``.
    """
    return step / warmup if step < warmup else 1.0


LR_SCHEDULES: Mapping[ScheduleName, Callable[[int, int, int], float]] = {
    "linear": linear_schedule,
    "constant": constant_schedule,
}
"""Functions of the step, all steps of the schedule and those of its warm-up, by their name in a configuration."""
