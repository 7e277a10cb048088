"""What a validation found, kept so that a fit that ends with one needs no further one."""

from dataclasses import dataclass

from lightning.pytorch import LightningDataModule

from lnsub.runs.examples import Examples


@dataclass(frozen=True)
class Validation:
    """The result of the last validation.

    Attributes:
        of: the data module that was validated on.
        step: the trainer's global step.
        metrics: values by name.
        examples: what the task counts of each example; None for a task that does not.
    """

    of: LightningDataModule | None
    step: int
    metrics: dict[str, float]
    examples: Examples | None = None
