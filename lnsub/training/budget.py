"""The length of one fit, and its learning-rate schedule."""

from dataclasses import dataclass

from lightning.pytorch import Trainer

from lnsub.common.errors import UserError


@dataclass(frozen=True)
class Budget:
    """The length of one fit, and the part of a learning-rate schedule that it covers.

    ``trainer.max_epochs`` cannot hold it, because it counts over all fits of a run.

    Attributes:
        epochs: epochs of this fit; -1 where only ``steps`` bounds it.
        steps: optimizer steps of this fit; -1 where only ``epochs`` bounds it.
        part: index of this fit among the ``parts`` that share one schedule, from 0.
        parts: number of fits that share one schedule; 1: every fit has its own.
    """

    epochs: int
    steps: int
    part: int = 0
    parts: int = 1

    @classmethod
    def of(cls, trainer: Trainer) -> "Budget":
        """The length configured in a trainer; raises UserError if there is none."""
        epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
        if epochs < 1 and trainer.max_steps < 1:
            raise UserError("A fit needs a length: set trainer.max_epochs or trainer.max_steps.")
        return cls(epochs, trainer.max_steps)


def linear_schedule(step: int, total: int, warmup: int) -> float:
    """The learning-rate factor at optimizer step ``step``: linear from 0 over ``warmup`` steps, then linear to 0.

    Devlin et al. (2019); equals transformers' ``get_linear_schedule_with_warmup``.
    """
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))
