"""The length of one fit."""

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
        """The length that a trainer was given; see :meth:`of_settings`."""
        return cls.of_settings(trainer.max_epochs, trainer.max_steps)

    @classmethod
    def of_settings(cls, max_epochs: int | None, max_steps: int) -> "Budget":
        """The length of a fit by the trainer's settings of these names.

        Raises:
            UserError: it has none.
        """
        epochs = -1 if max_epochs is None else max_epochs
        if epochs < 1 and max_steps < 1:
            raise UserError("Say how long a fit is: set trainer.max_epochs or trainer.max_steps.")
        return cls(epochs, max_steps)
