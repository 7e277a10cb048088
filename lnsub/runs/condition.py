"""What sets a run apart from the plain one of its seed: other seeds for some of its parts, other rows, other labels.

Two tickets resemble each other for many reasons: the task head's initial values, the order of the data, the rows, the
language. Controlled comparisons vary one of them and hold the others.
"""

from dataclasses import dataclass
from typing import Literal

from lnsub.common.bounds import CountOrZero, Seed

Labels = Literal["shuffled"]


@dataclass(frozen=True)
class Condition:
    """Settings of a run that are none of its seed's own; all None for a plain run.

    Attributes:
        head_seed: seed of the weights that the checkpoint lacks, the task head's.
        order_seed: seed of the order of the data, of dropout and of training masks.
        subset_seed: seed of the choice of training rows.
        train_sample: which of the disjoint samples of training rows; 0 is the first.
        labels: ``shuffled``: each training label is that of another, drawn at random.
    """

    head_seed: Seed | None = None
    order_seed: Seed | None = None
    subset_seed: Seed | None = None
    train_sample: CountOrZero | None = None
    labels: Labels | None = None

    def name(self, seed: int) -> str | None:
        """What follows the seed in the name of the run's folder: ``sample1``, ``head58-shuffled``; None where plain.

        Args:
            seed: of the run; parts that have the same seed are not named.
        """
        parts = [
            f"{what}{value}"
            for what, value in (("head", self.head_seed), ("order", self.order_seed))
            if value not in {None, seed}
        ]
        parts += [] if self.subset_seed is None else [f"subset{self.subset_seed}"]
        parts += [f"sample{self.train_sample}"] if self.train_sample else []
        parts += [] if self.labels is None else [self.labels]
        return "-".join(parts) or None

    def settings(self) -> dict[str, str | int]:
        """The settings of `lnsub fit` that give it, by dotted name."""
        own = {"head_seed": self.head_seed, "order_seed": self.order_seed, "subset_seed": self.subset_seed}
        of_data = {"train_sample": self.train_sample, "labels": self.labels}
        found = {**own, **{f"data.init_args.{name}": value for name, value in of_data.items()}}
        return {name: value for name, value in found.items() if value is not None}


PLAIN = Condition()
"""The condition of a run with nothing set apart."""
