"""What ranks do in tests that need several: `lnsub` as one rank of a job that somebody else has started."""

import io
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from lnsub.cli.main import main
from lnsub.training.module import SubnetModule


def statuses(rank: int, commands: list[list[str]], cache: Path) -> list[int]:
    """Runs commands one after another; returns their exit statuses."""
    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = cache
    return [main(args) for args in commands]


def said(rank: int, command: list[str], cache: Path) -> tuple[int, list[str]]:
    """Runs a command; returns its exit status and what it complained of."""
    with redirect_stderr(io.StringIO()) as err:
        (status,) = statuses(rank, [command], cache)
    return status, [line for line in err.getvalue().splitlines() if line.startswith("lnsub: error: ")]


def spoilt(rank: int, command: list[str], cache: Path, odd: list[int]) -> tuple[int, list[str]]:
    """Runs a command in which the odd ranks' weights go astray just before the second round is pruned."""
    ended = SubnetModule.on_validation_epoch_end
    epochs = 0

    def spoil(module: SubnetModule) -> None:
        nonlocal epochs
        ended(module)
        epochs += 1
        if epochs == 4 and rank in odd:
            next(iter(module.subnet.weights.values())).data.mul_(3 + rank)

    SubnetModule.on_validation_epoch_end = spoil  # type: ignore[method-assign]
    return said(rank, command, cache)


def hanging(rank: int, command: list[str], cache: Path, over: Path) -> tuple[int, list[str]]:
    """Runs a command in which rank 1 gets stuck in a step, until the others have given it up."""
    step = SubnetModule.training_step

    def stuck(module: SubnetModule, batch: dict[str, Tensor], index: int) -> Any:
        while rank == 1 and module.global_step == 5 and not over.exists():
            time.sleep(0.05)
        return step(module, batch, index)

    SubnetModule.training_step = stuck  # type: ignore[method-assign]
    result = said(rank, command, cache)
    if rank == 0:
        over.touch()
    return result
