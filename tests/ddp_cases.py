"""What ranks do in tests that need several: `lnsub` as one rank of a job that somebody else has started."""

from pathlib import Path

import datasets
import torch
from lightning.pytorch import Trainer

from lnsub.cli import main
from lnsub.errors import RunError
from lnsub.module import SubnetModule
from lnsub.ranks import check_agreement


def statuses(rank: int, commands: list[list[str]], cache: Path) -> list[int]:
    """Runs commands one after another; returns their exit statuses."""
    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = cache
    return [main(args) for args in commands]


def spoilt(rank: int, command: list[str], cache: Path, odd: list[int]) -> int:
    """Runs a command in which the odd ranks' weights go astray just before the second round is pruned."""
    pruned = SubnetModule.on_validation_epoch_end
    epochs = 0

    def spoil(module: SubnetModule) -> None:
        nonlocal epochs
        pruned(module)
        epochs += 1
        if epochs == 4 and rank in odd:
            next(iter(module.subnet.weights.values())).data.mul_(-3 - rank)

    SubnetModule.on_validation_epoch_end = spoil  # type: ignore[method-assign]
    (status,) = statuses(rank, [command], cache)
    return status
