"""What ranks do in tests that need several: `lnsub` as one rank of a job that somebody else has started."""

import io
import itertools
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import datasets
import torch
from lightning.pytorch import Trainer
from torch import Tensor

import lnsub.training.checkpoints
from lnsub.cli.main import main
from lnsub.training.checkpoints import Checkpoints
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


def saving(rank: int, commands: list[list[str]], clocks: list[tuple[float, float]], cache: Path) -> list[list[int]]:
    """Runs commands under clocks that differ between ranks; returns the steps at which each saved within its rounds.

    Args:
        rank: this process's.
        commands: the command lines.
        clocks: for each of them, by how many seconds a look at each rank's clock advances it.
        cache: of data sets.
    """
    save, steps = Checkpoints.save, []

    def noted(self: Checkpoints, trainer: Trainer, **kwargs: Any) -> None:
        if trainer.training:
            steps[-1].append(trainer.global_step)
        save(self, trainer, **kwargs)

    Checkpoints.save = noted  # type: ignore[method-assign]
    for command, clock in zip(commands, clocks, strict=True):
        steps.append([])
        looks = itertools.count()
        lnsub.training.checkpoints.monotonic = lambda looks=looks, pace=clock[rank]: next(looks) * pace
        assert statuses(rank, [command], cache) == [0]
    return steps


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
