"""How long one fit is, and its learning rate over that length."""

from dataclasses import dataclass

from lightning.pytorch import Trainer

from lnsub.common.errors import UserError


@dataclass(frozen=True)
class Budget:
    """How long one fit is, and which part of a learning-rate schedule it covers.

    ``trainer.max_epochs`` counts over all fits of a run, so it cannot tell.

    Attributes:
        epochs: epochs of this fit; -1 where only ``steps`` bounds it.
        steps: optimizer steps of this fit; -1 where only ``epochs`` bounds it.
        part: this fit's place among the ``parts`` that share one schedule, from 0.
        parts: fits that share one schedule; 1: every fit has a schedule of its own.
    """

    epochs: int
    steps: int
    part: int = 0
    parts: int = 1

    @classmethod
    def of(cls, trainer: Trainer) -> "Budget":
        """The length that a trainer was given; raises UserError where it was given none."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        if epochs < 1 and trainer.max_steps < 1:
            raise UserError("Say how long a fit is: set trainer.max_epochs or trainer.max_steps.")
        return cls(epochs, trainer.max_steps)


def linear_schedule(step: int, total: int, warmup: int) -> float:
    """The learning rate's factor before optimizer step ``step``: up from 0 over ``warmup`` steps, then down to 0.

    Devlin et al. (2019); the same as transformers' ``get_linear_schedule_with_warmup``.
    """
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))
