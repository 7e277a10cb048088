"""What a validation found, kept so that a fit that ends with one needs no further one."""

from dataclasses import dataclass

from lightning.pytorch import LightningDataModule


@dataclass(frozen=True)
class Validation:
    """The result of the last validation.

    Attributes:
        of: the data module that was validated on.
        step: the trainer's global step.
        metrics: values by name.
    """

    of: LightningDataModule | None
    step: int
    metrics: dict[str, float]
